/*
 * terminator.c
 *	  The terminator worker: ends the sessions of dead client hosts.
 *
 * A slot with a cut-off is a request (see bridge.h). The terminator takes a
 * snapshot of all sessions from shared memory, and does to each that comes
 * from the slot's address, and started at or before the cut-off, what
 * pg_terminate_backend() does. Pure C, no database connection; blocks on its
 * latch only, and on nothing that a session holds.
 *
 * Walsenders end by silence only, and so do the applications that
 * watchdog.terminate_on_silence_only names. A conmgr that says goodbye, closes
 * or has given this instance up is no dead host: what replicates to that host,
 * or takes a backup of this server, goes on.
 *
 * A session that was still being authenticated is not in the snapshot yet, so
 * the same request is followed up until authentication_timeout has passed.
 */
#include "watchdog.h"

#include <netinet/in.h>
#include <signal.h>
#include <time.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include <arpa/inet.h>

#define SPARE_FOLLOW_UPS	64	/* beyond one for each slot */
#define FIRST_FOLLOW_UP_MS	1000	/* a thousand sessions take about as long to end */

/* What has to end: the sessions of one address up to a cut-off. */
typedef struct Request
{
	uint8		addr[16];
	uint32		scope;
	TimestampTz cutoff;
	TimestampTz silence_cutoff; /* for sessions that end by silence only; 0:
								 * they are spared */
	uint8		cause;
	bool		first;			/* not a follow-up */
	int			signaled;
	int			spared;
	char		text[INET6_ADDRSTRLEN];
} Request;

/* A request that is looked at again. */
typedef struct FollowUp
{
	Request		request;
	TimestampTz next;			/* 0: unused */
	TimestampTz until;
	int			delay_ms;
	int64		skew;			/* wall clock minus monotonic clock, in µs */
} FollowUp;

/*
 * An address has one at most, so there is one for each host that can die
 * within authentication_timeout. Only slots that are used by ever other
 * addresses need more; the oldest gives way then.
 */
static FollowUp *follow_ups;
static int	nfollow_ups;

#define MAX_CLOCK_STEP_US	500000

/*
 * How far the wall clock is ahead of the monotonic one, in µs. Taken anew if
 * this process was held up between the two readings: that is no clock that
 * somebody has set.
 */
static int64
clock_skew(void)
{
	int64		skew = 0;
	int64		window = PG_INT64_MAX;

	for (int i = 0; i < 10 && window > MAX_CLOCK_STEP_US / 10; i++)
	{
		struct timespec mono;
		TimestampTz before = GetCurrentTimestamp();
		TimestampTz after;

		clock_gettime(CLOCK_MONOTONIC, &mono);
		after = GetCurrentTimestamp();
		if (after - before >= 0 && after - before < window)
		{
			window = after - before;
			skew = before - (mono.tv_sec * USECS_PER_SEC + mono.tv_nsec / 1000);
		}
	}
	return skew;
}

/*
 * ::1 and 127.0.0.1 are one host: a name such as localhost leads to either.
 * hostOf() in heartbeat/watchdog/table.go folds them alike.
 */
static void
fold_loopback(uint8 *addr)
{
	static const uint8 loopback4[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};

	if (IN6_IS_ADDR_LOOPBACK((const struct in6_addr *) addr))
		memcpy(addr, loopback4, sizeof(loopback4));
}

/*
 * The client address in the form of a slot: 16 bytes, IPv4 mapped. false: no
 * client host (unix socket, internal process).
 */
static bool
client_address(const SockAddr *client, uint8 *addr, uint32 *scope)
{
	*scope = 0;
	if (client->addr.ss_family == AF_INET)
	{
		memset(addr, 0, 10);
		memset(addr + 10, 0xff, 2);
		memcpy(addr + 12, &((const struct sockaddr_in *) &client->addr)->sin_addr, 4);
		return true;
	}
	if (client->addr.ss_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) &client->addr;

		memcpy(addr, &in6->sin6_addr, 16);
		fold_loopback(addr);
		if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
			*scope = in6->sin6_scope_id;
		return true;
	}
	return false;
}

static bool
is_client_session(const PgBackendStatus *session)
{
	return session->st_procpid > 0 &&
		(session->st_backendType == B_BACKEND || session->st_backendType == B_WAL_SENDER);
}

static bool
same_host(const Request *request, const uint8 *addr, uint32 scope)
{
	return memcmp(addr, request->addr, sizeof(request->addr)) == 0 && scope == request->scope;
}

/* Did the session start before the cut-off? */
static bool
started_before(const PgBackendStatus *session, const Request *request, TimestampTz cutoff,
			   TimestampTz now)
{
	if (session->st_proc_start_timestamp <= cutoff)
		return true;

	/* Started in the future: before somebody set the clock back. */
	return request->first && session->st_proc_start_timestamp > now;
}

/* What pg_terminate_backend() does, but for its checks of privileges. */
static void
end_session(int pid, Request *request)
{
	if (BackendPidGetProc(pid) == NULL)
		return;					/* it has ended meanwhile */
	if (kill(-pid, SIGTERM) == 0)
		request->signaled++;
	else if (errno != ESRCH)
		ereport(WARNING,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not send signal to process %d: %m", pid)));
}

/*
 * Walsenders, and applications of the setting. An application names itself,
 * which proves nothing: so a name protects from no end by silence.
 */
static bool
ends_by_silence_only(const PgBackendStatus *session, List *applications)
{
	ListCell   *lc;

	if (session->st_backendType == B_WAL_SENDER)
		return true;
	foreach(lc, applications)
	{
		if (strcmp((char *) lfirst(lc), session->st_appname) == 0)
			return true;
	}
	return false;
}

/* Does the request want the end of this session, which is of its host? */
static bool
wants_end_of(Request *request, const PgBackendStatus *session, List *applications, TimestampTz now)
{
	if (!started_before(session, request, request->cutoff, now))
		return false;
	if (!ends_by_silence_only(session, applications))
		return true;
	if (request->silence_cutoff != 0)
		return started_before(session, request, request->silence_cutoff, now);
	request->spared++;
	return false;
}

/* One pass over all sessions for all requests. */
static void
end_sessions(Request *requests, int nrequests)
{
	int			nsessions = pgstat_fetch_stat_numbackends();
	TimestampTz now = GetCurrentTimestamp();	/* after the snapshot: nothing in it has started later */
	List	   *applications = watchdog_silence_only_applications();

	for (int i = 1; i <= nsessions; i++)
	{
		PgBackendStatus *session = wd_session(i);
		uint8		addr[16];
		uint32		scope;

		if (session == NULL || !is_client_session(session) ||
			!client_address(&session->st_clientaddr, addr, &scope))
			continue;
		for (int r = 0; r < nrequests; r++)
		{
			if (same_host(&requests[r], addr, scope) &&
				wants_end_of(&requests[r], session, applications, now))
			{
				end_session(session->st_procpid, &requests[r]);
				break;
			}
		}
	}
	wd_forget_sessions();
}

static const char *
cause_text(uint8 cause)
{
	switch (cause)
	{
		case WD_CAUSE_SILENCE:
			return "Nothing was received from the conmgr process for heartbeat_timeout.";
		case WD_CAUSE_GOODBYE:
			return "The conmgr process has ended.";
		case WD_CAUSE_GIVEN_UP:
			return "The conmgr process has declared this instance lost.";
		case WD_CAUSE_CLOSED:
			return "The conmgr process has closed its heartbeat connection and did not resume.";
		default:
			return "";
	}
}

/*
 * A request that finds no session is logged as well, but a peer can cause them
 * again and again, by HELLO and goodbye: only so many are, and then how many
 * were not.
 */
#define IDLE_REPORTS		20
#define IDLE_REPORTS_MS		10000

static int	idle_reports = 0;
static int	idle_left_out = 0;
static TimestampTz idle_since = 0;

static void
report_left_out(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(idle_since, now, IDLE_REPORTS_MS) && now >= idle_since)
		return;
	if (idle_left_out > 0)
		ereport(LOG,
				(errmsg("terminator: %d requests that found no connection to terminate were left out of the log",
						idle_left_out)));
	idle_reports = idle_left_out = 0;
	idle_since = now;
}

static bool
may_report(const Request *request)
{
	if (request->signaled > 0)
		return true;
	report_left_out();
	if (idle_reports < IDLE_REPORTS)
	{
		idle_reports++;
		return true;
	}
	idle_left_out++;
	return false;
}

static void
report(const Request *request)
{
	if (request->first && !may_report(request))
		return;
	if (request->first && request->spared > 0)
		ereport(LOG,
				(errmsg("terminator: terminated connections: ipaddress=\"%s\", count=%d",
						request->text, request->signaled),
				 errdetail("%s Its host lives: connections that end by silence only, and are spared: %d.",
						   cause_text(request->cause), request->spared)));
	else if (request->first)
		ereport(LOG,
				(errmsg("terminator: terminated connections: ipaddress=\"%s\", count=%d",
						request->text, request->signaled),
				 errdetail("%s", cause_text(request->cause))));
	else if (request->signaled > 0)
		ereport(LOG,
				(errmsg("terminator: terminated connections again: ipaddress=\"%s\", count=%d",
						request->text, request->signaled),
				 errdetail("They were still starting, or have not ended yet.")));
}

static void
make_request(Request *request, const WatchdogSlot *slot, TimestampTz cutoff)
{
	memset(request, 0, sizeof(*request));
	memcpy(request->addr, slot->addr, sizeof(request->addr));
	request->scope = slot->scope;
	request->cutoff = cutoff;
	request->cause = slot->cause;
	request->silence_cutoff = WD_CAUSE_SPARES_WALSENDERS(slot->cause) ? 0 : cutoff;
	request->first = true;
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *) slot->addr))
		inet_ntop(AF_INET, slot->addr + 12, request->text, sizeof(request->text));
	else
		inet_ntop(AF_INET6, slot->addr, request->text, sizeof(request->text));
	fold_loopback(request->addr);
}

/* The clock was set since this follow-up was made: its cut-off says nothing any more. */
static bool
is_void(const FollowUp *f, int64 skew)
{
	int64		step = skew - f->skew;

	return step > MAX_CLOCK_STEP_US || step < -MAX_CLOCK_STEP_US;
}

/* The place for a request: the one that its host has already, a free one, or the oldest. */
static FollowUp *
follow_up_place(const Request *request)
{
	FollowUp   *place = &follow_ups[0];

	for (int i = 0; i < nfollow_ups; i++)
	{
		FollowUp   *f = &follow_ups[i];

		if (f->next != 0 && same_host(&f->request, request->addr, request->scope))
			return f;
		if (place->next != 0 && (f->next == 0 || f->until < place->until))
			place = f;
	}
	return place;
}

static void
follow_up(const Request *request)
{
	FollowUp   *place = follow_up_place(request);
	TimestampTz now = GetCurrentTimestamp();
	int64		skew = clock_skew();
	Request		merged = *request;

	if (place->next != 0 && same_host(&place->request, request->addr, request->scope) &&
		!is_void(place, skew))
	{
		merged.cutoff = Max(merged.cutoff, place->request.cutoff);
		merged.silence_cutoff = Max(merged.silence_cutoff, place->request.silence_cutoff);
	}
	place->request = merged;
	place->request.first = false;
	place->request.signaled = place->request.spared = 0;
	place->delay_ms = FIRST_FOLLOW_UP_MS;
	place->next = now + place->delay_ms * INT64CONST(1000);
	place->until = now + AuthenticationTimeout * USECS_PER_SEC;
	place->skew = skew;
}

/* Serve the slots with a cut-off, and answer them. Returns how many. */
static int
serve_slots(void)
{
	uint32		n = watchdog_shared->nslots;
	int			nrequests = 0;
	int			limit = 16;
	Request    *requests = palloc(limit * sizeof(Request));
	uint32	   *slots = palloc(limit * sizeof(uint32));

	for (uint32 i = 0; i < n; i++)
	{
		int64		cutoff = wd_load(&watchdog_shared->slots[i].cutoff);

		if (cutoff == 0)
			continue;
		if (nrequests == limit)
		{
			limit *= 2;
			requests = repalloc(requests, limit * sizeof(Request));
			slots = repalloc(slots, limit * sizeof(uint32));
		}
		/* The address does not change while there is a cut-off. */
		make_request(&requests[nrequests], &watchdog_shared->slots[i], cutoff - WD_EPOCH_DIFF_US);
		slots[nrequests++] = i;
	}
	if (nrequests > 0)
		end_sessions(requests, nrequests);
	for (int r = 0; r < nrequests; r++)
	{
		WatchdogSlot *slot = &watchdog_shared->slots[slots[r]];
		int64		expected = requests[r].cutoff + WD_EPOCH_DIFF_US;
		uint32		ending = WD_SLOT_ENDING;

		report(&requests[r]);
		follow_up(&requests[r]);

		/* A later cut-off than the one that we served is another request. */
		if (__atomic_compare_exchange_n(&slot->cutoff, &expected, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			(void) __atomic_compare_exchange_n(&slot->state, &ending, WD_SLOT_FREE, false,
											   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
	pfree(requests);
	pfree(slots);
	return nrequests;
}

/* Follow up what is due. Returns the time until the next one in ms, -1: none. */
static long
serve_follow_ups(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;
	int64		skew = clock_skew();
	int			ndue = 0;
	Request    *due = palloc_extended(nfollow_ups * sizeof(Request), MCXT_ALLOC_HUGE);

	for (int i = 0; i < nfollow_ups; i++)
	{
		FollowUp   *f = &follow_ups[i];

		if (f->next != 0 && is_void(f, skew))
			f->next = 0;
		if (f->next != 0 && f->next <= now)
		{
			due[ndue++] = f->request;
			f->delay_ms *= 2;
			f->next = now >= f->until ? 0 : now + f->delay_ms * INT64CONST(1000);
		}
		if (f->next != 0 && (next == 0 || f->next < next))
			next = f->next;
	}
	if (ndue > 0)
		end_sessions(due, ndue);
	for (int i = 0; i < ndue; i++)
		report(&due[i]);
	pfree(due);
	if (next == 0)
		return -1;
	now = GetCurrentTimestamp();
	return next > now ? (long) ((next - now) / 1000 + 1) : 0;
}

static void
withdraw_latch(int code, Datum arg)
{
	watchdog_publish_latch(&watchdog_shared->terminator_latch, NULL);
}

void
watchdog_terminator_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	nfollow_ups = watchdog_shared->nslots + SPARE_FOLLOW_UPS;
	follow_ups = MemoryContextAllocExtended(TopMemoryContext, nfollow_ups * sizeof(FollowUp),
											MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	context = AllocSetContextCreate(TopMemoryContext, "terminator", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	on_shmem_exit(withdraw_latch, (Datum) 0);
	watchdog_publish_latch(&watchdog_shared->terminator_latch, MyLatch);

	while (!ShutdownRequestPending)
	{
		long		wait;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		serve_slots();
		wait = serve_follow_ups();
		report_left_out();
		MemoryContextReset(context);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (wait >= 0 ? WL_TIMEOUT : 0),
						 wait, PG_WAIT_EXTENSION);
	}

	/* Not 0, which would mean never to be started again: an administrator may have sent the signal. */
	proc_exit(1);
}
