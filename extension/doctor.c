/*
 * doctor.c
 *	  watchdog_doctor(): what is wrong, or will be, as far as this server sees
 *	  it, and what to do about it. A row a check.
 *
 * The SQL function begins with what can be told without this library, and then
 * asks here. Runs in ordinary backends. Takes no lock; blocks on the file
 * system, for the key file.
 */
#include "watchdog.h"

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(pgx_watchdog_doctor);
PG_FUNCTION_INFO_V1(pgx_watchdog_version);

#define DOCTOR_COLUMNS 4

#define HUNG_MS			5000	/* the heartbeat thread looks around each
								 * second */
#define RECENT_STEP_MS	3600000 /* a step of the clock */
#define MAX_ADDRESSES	10		/* that are named */
#define SCARCE_SHARE	10		/* one slot in so many is left */

/* Where the rows go. */
typedef struct Doctor
{
	Tuplestorestate *store;
	TupleDesc	desc;
	WatchdogSlots *slots;
	int64		now;			/* ns, CLOCK_MONOTONIC */
} Doctor;

static void put(Doctor *d, const char *check, const char *status,
				const char *advice, const char *format,...) pg_attribute_printf(5, 6);

/* advice: NULL where there is nothing to do. */
static void
put(Doctor *d, const char *check, const char *status, const char *advice,
	const char *format,...)
{
	Datum		values[DOCTOR_COLUMNS];
	bool		nulls[DOCTOR_COLUMNS] = {0};
	char		detail[2048];
	va_list		args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	values[0] = CStringGetTextDatum(check);
	values[1] = CStringGetTextDatum(status);
	values[2] = CStringGetTextDatum(detail);
	nulls[3] = advice == NULL;
	values[3] = advice ? CStringGetTextDatum(advice) : (Datum) 0;
	tuplestore_putvalues(d->store, d->desc, values, nulls);
}

static int64
ms_since(const Doctor *d, int64 mono)
{
	return (d->now - mono) / 1000000;
}

static void
check_workers(Doctor *d)
{
	const char *missing = "See the server's log. watchdog needs two of max_worker_processes.";
	int64		alive = wd_load(&watchdog_shared->alive_mono);

	if (watchdog_published_latch(&watchdog_shared->worker_latch) == NULL)
		put(d, "watchdog worker", "error", missing,
			"It does not run: no client host is monitored.");
	else if (wd_load(&watchdog_shared->told.keys_failed) == 0 &&
			 ms_since(d, alive) > HUNG_MS)
		put(d, "watchdog worker", "error", "See the server's log. It is restarted by itself.",
			"It has done nothing for %lld ms.", (long long) ms_since(d, alive));
	else if (watchdog_shared->failed_starts > 0 || watchdog_shared->quick_restarts > 0)
		put(d, "watchdog worker", "warning", "See the server's log for the reason.",
			"It runs, and has failed a short time ago: %d times in a row.",
			Max(watchdog_shared->failed_starts, watchdog_shared->quick_restarts));
	else
		put(d, "watchdog worker", "ok", NULL, "It runs.");

	if (watchdog_published_latch(&watchdog_shared->terminator_latch) == NULL)
		put(d, "terminator worker", "error", missing,
			"It does not run: sessions of dead client hosts are not terminated.");
	else
		put(d, "terminator worker", "ok", NULL, "It runs.");
}

static void
check_port(Doctor *d)
{
	uint32		n = wd_load(&watchdog_shared->told.listening);

	if (watchdog_published_latch(&watchdog_shared->worker_latch) == NULL)
		put(d, "heartbeat port", "error", NULL, "Nobody listens: the watchdog worker does not run.");
	else if (wd_load(&watchdog_shared->told.listen_failed))
		put(d, "heartbeat port", "error",
			"Is another server using watchdog.port, or is an address of watchdog.listen_addresses none of this machine's? See the server's log.",
			"It cannot listen on all of watchdog.listen_addresses, port %d; there are %u sockets.", watchdog_port, n);
	else if (n == 0)
		put(d, "heartbeat port", "error", "Set watchdog.listen_addresses.",
			"Nobody can connect: watchdog.listen_addresses names no address of this machine.");
	else
		put(d, "heartbeat port", "ok", NULL, "It listens on port %d, with %u sockets.", watchdog_port, n);
}

static void
check_slots(Doctor *d)
{
	uint32		used = 0;
	uint64		full = wd_load(&watchdog_shared->totals[WD_REFUSED_FULL]);

	for (uint32 i = 0; i < d->slots->n; i++)
		used += d->slots->slots[i].state != WD_SLOT_FREE;
	if (full > 0 || used + used / SCARCE_SHARE >= d->slots->n + (d->slots->n < SCARCE_SHARE))
		put(d, "slots", "warning", "Raise watchdog.max_heartbeat_connections, which needs a restart.",
			"%u of %u are taken; " UINT64_FORMAT " connections found none since the counters were reset.",
			used, d->slots->n, full);
	else
		put(d, "slots", "ok", NULL, "%u of %u are taken.", used, d->slots->n);
}

static void
check_files(Doctor *d)
{
	struct rlimit lim;
	rlim_t		need = watchdog_needed_files();

	if (getrlimit(RLIMIT_NOFILE, &lim) != 0)
		put(d, "open files", "warning", NULL, "Their limit cannot be told: %m");
	else if (lim.rlim_max != RLIM_INFINITY && lim.rlim_max <= need)
		put(d, "open files", "warning",
			"Raise it (ulimit -n, LimitNOFILE=) and restart the server, or lower watchdog.max_heartbeat_connections.",
			"The hard limit is %lu: max_files_per_process + watchdog.max_heartbeat_connections x 2 is %lu.",
			(unsigned long) lim.rlim_max, (unsigned long) need);
	else
		put(d, "open files", "ok", NULL, "The hard limit suffices for %d conmgr processes.",
			watchdog_max_heartbeat_connections);
}

/* Who is connected, and who should be heard of. */
static void
check_conmgrs(Doctor *d)
{
	int			connected = 0;
	int			late = 0;
	int			gone = 0;

	for (uint32 i = 0; i < d->slots->n; i++)
	{
		const WatchdogSlot *slot = &d->slots->slots[i];

		if (slot->state == WD_SLOT_CONNECTED)
		{
			connected++;
			late += ms_since(d, slot->last_received_mono) >
				(int64) slot->interval_ms + slot->interval_ms / 2;
		}
		else
			gone += watchdog_is_awaited(slot);
	}
	if (connected == 0)
		put(d, "conmgr processes", "warning",
			"Start conmgr on the client hosts; the firewall has to let them to watchdog.port.",
			"None is connected: no client host is monitored.");
	else if (late > 0 || gone > 0)
		put(d, "conmgr processes", "warning",
			"See last_received and resumed_count of pgx_stat_watchdog: a link is in trouble, or a host.",
			"%d are connected, of which %d are late with their heartbeats; %d are not, and may resume.",
			connected, late, gone);
	else
		put(d, "conmgr processes", "ok", NULL, "%d are connected, and heard of.", connected);
}

/* Sessions of one address for which nobody answers. */
typedef struct Lonely
{
	uint8		addr[16];
	int			sessions;
} Lonely;

/* Whom nobody needs to monitor: this session, and those of this very machine. */
static bool
needs_no_conmgr(const WatchdogSession *session)
{
	const struct in6_addr *addr = (const struct in6_addr *) session->addr;

	return session->pid == (uint32) MyProcPid || IN6_IS_ADDR_LOOPBACK(addr) ||
		(IN6_IS_ADDR_V4MAPPED(addr) && session->addr[12] == 127) ||
		memcmp(session->addr, session->server, sizeof(session->addr)) == 0;
}

static void
note_address(List **addresses, const uint8 *addr)
{
	ListCell   *lc;
	Lonely	   *lonely;

	foreach(lc, *addresses)
	{
		lonely = lfirst(lc);
		if (memcmp(lonely->addr, addr, sizeof(lonely->addr)) == 0)
		{
			lonely->sessions++;
			return;
		}
	}
	lonely = palloc0(sizeof(Lonely));
	memcpy(lonely->addr, addr, sizeof(lonely->addr));
	lonely->sessions = 1;
	*addresses = lappend(*addresses, lonely);
}

static void
put_addresses(Doctor *d, List *addresses)
{
	StringInfoData names;
	ListCell   *lc;
	int			n = 0;

	if (addresses == NIL)
	{
		put(d, "addresses", "ok", NULL, "None that has sessions is without a conmgr process.");
		return;
	}
	initStringInfo(&names);
	foreach(lc, addresses)
	{
		const Lonely *lonely = lfirst(lc);

		if (n++ == MAX_ADDRESSES)
		{
			appendStringInfoString(&names, ", and others");
			break;
		}
		appendStringInfo(&names, "%s%s (%d)", n > 1 ? ", " : "",
						 watchdog_address_text(lonely->addr), lonely->sessions);
	}
	put(d, "addresses", "warning",
		"Start conmgr on these hosts. If one runs there, its heartbeats come from another address: the driver's label, or backend_hostaddr, makes that right.",
		"Without a conmgr process (sessions): %s.", names.data);
}

static void
put_sessions(Doctor *d, int protected, int lonely)
{
	if (lonely > 0)
		put(d, "sessions", "warning", "See pgx_stat_watchdog_sessions, and the addresses below.",
			"%d are protected, and %d are not: nobody ends them when their host dies silently.",
			protected, lonely);
	else
		put(d, "sessions", "ok", NULL, "%d are protected.", protected);
}

static void
put_senders(Doctor *d, int lonely)
{
	if (lonely > 0 && wal_sender_timeout == 0)
		put(d, "replication", "warning", "Set wal_sender_timeout, or start conmgr on these hosts.",
			"%d walsenders have no conmgr process, and wal_sender_timeout is 0: they outlive their hosts.", lonely);
	else
		put(d, "replication", "ok", NULL, "%d walsenders have no conmgr process, but wal_sender_timeout.", lonely);
}

static void
check_sessions(Doctor *d)
{
	List	   *addresses = NIL;
	int			protected = 0;
	int			lonely = 0;
	int			senders = 0;
	int			ending = 0;

	for (uint32 i = 0; i < watchdog_nsessions; i++)
	{
		WatchdogSession session;

		CHECK_FOR_INTERRUPTS(); /* each may look at all slots */
		if (!watchdog_read_session(i, &session))
			continue;
		ending += session.signaled == session.pid;
		if (watchdog_is_protected(d->slots, &session))
			protected++;
		else if (session.walsender)
			senders++;
		else if (!needs_no_conmgr(&session))
		{
			lonely++;
			note_address(&addresses, session.addr);
		}
	}
	put_sessions(d, protected, lonely);
	put_addresses(d, addresses);
	put_senders(d, senders);
	if (ending > 0)
		put(d, "ending sessions", "warning",
			"They are told again, ever later. See pg_stat_activity: one that hangs in the kernel or in foreign code cannot end.",
			"%d sessions were told to end, and are still there.", ending);
	else
		put(d, "ending sessions", "ok", NULL, "None that was told to end is still there.");
}

static void
check_access(Doctor *d)
{
	WatchdogAccess access = watchdog_access();
	uint32		keys = wd_load(&watchdog_shared->told.keys);
	const char *advice = "Set watchdog.key_file to a file with the permissions of a private key, and reload. See the server's log.";

	if (!access.authenticates)
	{
		put(d, "authentication", "ok", NULL,
			"watchdog.authentication is off: whoever reaches the port is believed.");
		return;
	}
	if (wd_load(&watchdog_shared->told.keys_failed))
		put(d, "authentication", keys > 0 ? "warning" : "error", advice,
			"The key file \"%s\" cannot be used (%s): %s.", access.key_file, watchdog_key_file_trouble(access.key_file),
			keys > 0 ? "the keys of before are in force" : "no conmgr process with a key is accepted");
	else if (keys == 0)
		put(d, "authentication", "warning", "Add a line for each client host, as cm_ctl genkey prints it, and reload.",
			"The key file \"%s\" has no key.", access.key_file);
	else
		put(d, "authentication", "ok", NULL, "%u keys are in force.", keys);
}

/* Sessions are known by a hook: see table.c. */
static void
check_hook(Doctor *d)
{
	const char *trouble = watchdog_hook_trouble();

	if (trouble != NULL)
		put(d, "authentication hook", "error",
			"Put watchdog last in shared_preload_libraries, or ask who makes the other library to call the hook that it has found.",
			"%s", trouble);
	else
		put(d, "authentication hook", "ok", NULL, "Sessions are known to watchdog as they begin.");
}

static void
check_terminate(Doctor *d)
{
	if (watchdog_reports_only())
		put(d, "terminate", "warning", "When you have seen enough: set watchdog.terminate to on, and reload.",
			"watchdog.terminate is off: no session of a dead host is terminated, what would be done is logged.");
	else
		put(d, "terminate", "ok", NULL, "Sessions of dead client hosts are terminated%s.",
			watchdog_terminate_on_close ? "" : ", by silence only (watchdog.terminate_on_close is off)");
	if (watchdog_is_drained())
		put(d, "draining", "warning", "If that is over: watchdog.draining = off, and SELECT watchdog_drain(false).",
			"This server is drained: conmgr processes offer it to nobody.");
	else
		put(d, "draining", "ok", NULL, "This server is not drained.");
}

static void
check_clock(Doctor *d)
{
	int64		set = wd_load(&watchdog_shared->clock_set_mono);
	TimestampTz now = GetCurrentTimestamp();
	struct timex tx = {.modes = 0};
	bool		unsynchronised = adjtimex(&tx) == TIME_ERROR;

	if (now < PgStartTime)
		put(d, "clock", "warning", "Have the clock set by NTP.",
			"The server has started in the future: the clock was set back by %.1f s at least.",
			(PgStartTime - now) / 1e6);
	else if (set != 0 && ms_since(d, set) < RECENT_STEP_MS)
		put(d, "clock", "warning", "Have the clock set by NTP. No verdict depends on it, but times in the log and in views do.",
			"It was set by %.1f s, or the machine was suspended, %lld s ago.",
			wd_load(&watchdog_shared->clock_set_by) / 1e6, (long long) ms_since(d, set) / 1000);
	else
		put(d, "clock", "ok", NULL, "It goes on evenly%s.",
			unsynchronised ? "; the kernel knows of nobody who sets it (NTP)" : "");
}

Datum
pgx_watchdog_doctor(PG_FUNCTION_ARGS)
{
	Doctor		d = {.now = wd_monotonic_now()};

	d.store = watchdog_begin_rows(fcinfo, DOCTOR_COLUMNS, DOCTOR_COLUMNS, &d.desc);
	d.slots = watchdog_read_slots();
	check_workers(&d);
	check_port(&d);
	check_slots(&d);
	check_files(&d);
	check_conmgrs(&d);
	check_sessions(&d);
	check_access(&d);
	check_hook(&d);
	check_terminate(&d);
	check_clock(&d);
	watchdog_free_slots(d.slots);
	return (Datum) 0;
}

/*
 * Of the extension that belongs to this library, which may be another one than
 * that of the files on disk.
 */
Datum
pgx_watchdog_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(WATCHDOG_SQL_VERSION));
}
