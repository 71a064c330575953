/*
 * table.c
 *	  The server's own table of sessions: who they are, and from where.
 *
 * A session writes its row when it has been authenticated, before anything in
 * which it could be held up, and then asks the verdicts that stand whether one
 * of them means it: its connection may have lain in the listen backlog while
 * its host died. The terminator's pass does it the other way round: a verdict
 * is written, and then the rows are read. With a full barrier between the two
 * on both sides, one of them sees the other.
 *
 * Runs in each backend that serves a client, and in the postmaster for its
 * making. Takes no lock; blocks on nothing.
 */
#include "watchdog.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>

/*
 * Port is laid out the same without them, as libpq-be.h promises to extensions,
 * and their headers need not be there.
 */
#undef ENABLE_GSS
#undef USE_OPENSSL
#undef USE_SSL
#include "libpq/auth.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

/* The kernel dates by its clock tick, which is never longer. */
#define CLOCK_TICK_MS	10

#define LABEL_OPTION	"conmgr.client"

#if WD_NEEDS_STATUS_ARRAY
PgBackendStatus *wd_status_array = NULL;
#endif

static ClientAuthentication_hook_type prev_client_authentication = NULL;
static WatchdogSession *my_row = NULL;
static int64 process_start = 0;

static void
note_process_start(void)
{
	process_start = wd_monotonic_now();
}

/*
 * When the client was last heard, by its kernel's last packet: at the latest,
 * as a session that is just born must not be taken for one of before. Without
 * TCP_INFO, the start of this process has to do.
 */
static int64
last_heard(pgsocket sock)
{
	struct tcp_info info;
	socklen_t	len = sizeof(info);
	int64		now = wd_monotonic_now();
	uint32		ago;

	if (getsockopt(sock, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
		len < offsetof(struct tcp_info, tcpi_last_ack_recv) +
		sizeof(info.tcpi_last_ack_recv))
		return process_start != 0 ? process_start : now;
	ago = Min(info.tcpi_last_data_recv, info.tcpi_last_ack_recv);
	ago -= Min(ago, CLOCK_TICK_MS);
	return now - ago * INT64CONST(1000000);
}

static uint64
socket_cookie(pgsocket sock)
{
	uint64		cookie = 0;

#ifdef SO_COOKIE
	socklen_t	len = sizeof(cookie);

	if (getsockopt(sock, SOL_SOCKET, SO_COOKIE, &cookie, &len) != 0)
		cookie = 0;
#endif
	return cookie;
}

/*
 * An address in the form of a slot: 16 bytes, IPv4 mapped. false: no client
 * host (unix socket).
 */
static bool
host_address(const SockAddr *sa, uint8 *addr, uint32 *scope, uint16 *port)
{
	*scope = 0;
	if (sa->addr.ss_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) &sa->addr;

		memset(addr, 0, 10);
		memset(addr + 10, 0xff, 2);
		memcpy(addr + 12, &in->sin_addr, 4);
		*port = ntohs(in->sin_port);
		return true;
	}
	if (sa->addr.ss_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) &sa->addr;

		memcpy(addr, &in6->sin6_addr, 16);
		if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
			*scope = in6->sin6_scope_id;
		*port = ntohs(in6->sin6_port);
		return true;
	}
	return false;
}

/* 32 lower-case hexadecimal digits; zeros are no label. */
bool
watchdog_parse_label(const char *text, uint8 *label)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < 32; i++)
	{
		const char *d = text[i] != '\0' ? strchr(digits, text[i]) : NULL;

		if (d == NULL)
			return false;
		label[i / 2] = (uint8) (label[i / 2] << 4 | (d - digits));
	}
	return text[32] == '\0';
}

/* NAME=VALUE: a label if it is one. */
static void
take_option(const char *option, uint8 *label)
{
	const size_t n = strlen(LABEL_OPTION);
	uint8		found[16] = {0};

	if (pg_strncasecmp(option, LABEL_OPTION, n) == 0 && option[n] == '=' &&
		watchdog_parse_label(option + n + 1, found))
		memcpy(label, found, sizeof(found));
}

/*
 * The startup packet has options, which the server has not looked at yet: in
 * one string, and as parameters of their own, which count more.
 */
static void
read_label(const Port *port, uint8 *label)
{
	ListCell   *lc;

	if (port->cmdline_options != NULL)
	{
		char	  **av = palloc((strlen(port->cmdline_options) + 2) * sizeof(char *));
		int			ac = 0;

		pg_split_opts(av, &ac, port->cmdline_options);
		for (int i = 0; i < ac; i++)
		{
			if (strcmp(av[i], "-c") == 0 && i + 1 < ac)
				take_option(av[++i], label);
			else if (strncmp(av[i], "-c", 2) == 0 || strncmp(av[i], "--", 2) == 0)
				take_option(av[i] + 2, label);
		}
		pfree(av);
	}
	foreach(lc, port->guc_options)
	{
		const char *name = (const char *) lfirst(lc);

		lc = lnext(port->guc_options, lc);
		if (lc == NULL)
			break;
		if (pg_strcasecmp(name, LABEL_OPTION) == 0)
		{
			uint8		found[16] = {0};

			if (watchdog_parse_label((const char *) lfirst(lc), found))
				memcpy(label, found, sizeof(found));
		}
	}
}

/* Copy a row. false: there is no session, or another one has come meanwhile. */
bool
watchdog_read_session(uint32 i, WatchdogSession *copy)
{
	const WatchdogSession *row = &watchdog_sessions[i];
	uint32		pid = wd_load(&row->pid);

	if (pid == 0)
		return false;
	memcpy(copy, row, sizeof(*copy));
	pg_read_barrier();
	copy->pid = pid;
	return wd_load(&row->pid) == pid;
}

static void
leave_table(int code, Datum arg)
{
	wd_store(&my_row->pid, 0);
	watchdog_has_ended(my_row);
	my_row = NULL;
}

/* The row of this session. false: it has no client host. */
static bool
enter_table(const Port *port)
{
	int			i = wd_process_number();
	WatchdogSession *row;
	uint32		scope;

	if (i < 0 || (uint32) i >= watchdog_nsessions || my_row != NULL)
		return false;
	row = &watchdog_sessions[i];
	wd_store(&row->pid, 0);
	watchdog_has_ended(row);
	memset(row, 0, offsetof(WatchdogSession, ended_by));
	if (!host_address(&port->raddr, row->addr, &row->scope, &row->port))
		return false;
	watchdog_fold_loopback(row->addr);
	(void) host_address(&port->laddr, row->server, &scope, &row->server_port);
	read_label(port, row->label);
	row->cookie = socket_cookie(port->sock);
	row->heard = last_heard(port->sock);
	row->status = wd_status_entry();
	row->backend = wd_backend_number();
	row->began = wd_monotonic_now();
	row->walsender = am_walsender;
	if (port->application_name != NULL)
		strlcpy(row->application, port->application_name,
				sizeof(row->application));
	my_row = row;
	on_shmem_exit(leave_table, (Datum) 0);
	wd_store(&row->pid, MyProcPid);
	watchdog_await_drain(row);
	return true;
}

/*
 * A verdict that stands means this session. false: it is only reported, for the
 * first time, as it would have ended by that.
 */
static bool
end_by_verdict(const WatchdogSlot *slot, uint32 index, int64 cutoff)
{
	bool		report_only = watchdog_was_reported(index, slot->verdict);

	if (report_only && my_row->reported != 0)
		return false;
	watchdog_count_cause(report_only ? WD_REPORTED : WD_TERMINATED,
						 slot->cause, 1);
	watchdog_verdict_starting(watchdog_find_verdict(index, slot->verdict));
	if (!report_only)
		return true;
	wd_store(&my_row->reported, cutoff);
	ereport(LOG,
			(errmsg("terminator: would have terminated a connection that is starting"),
			 errdetail("It was opened before the end of its client host. %s watchdog.terminate is off.",
					   watchdog_cause_text(slot->cause))));
	return false;
}

/* Does a verdict that stands mean this session? */
static void
look_up_verdicts(void)
{
	MemoryContext context;
	MemoryContext old;
	WatchdogSlots *slots;
	List	   *applications;

	wd_fence();					/* the row is written */
	if (my_row->heard > wd_load(&watchdog_shared->latest_cutoff))
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "watchdog verdicts",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	slots = watchdog_read_slots();
	applications = watchdog_silence_only_applications();
	for (uint32 i = 0; i < slots->n; i++)
	{
		const WatchdogSlot *slot = &slots->slots[i];
		int64		cutoff = watchdog_means(slots, slot, my_row);

		if (cutoff == 0 || (WD_CAUSE_SPARES_WALSENDERS(slot->cause) &&
							watchdog_ends_by_silence_only(my_row, applications)) ||
			!end_by_verdict(slot, i, cutoff))
			continue;
		ereport(FATAL,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("terminating connection due to administrator command"),
				 errdetail("It was opened before the end of its client host. %s",
						   watchdog_cause_text(slot->cause))));
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

static void
client_authentication(Port *port, int status)
{
	if (status == STATUS_OK && enter_table(port))
		look_up_verdicts();
	if (prev_client_authentication)
		prev_client_authentication(port, status);
}

/* What is wrong with the hook, as far as this session can tell. NULL: nothing. */
const char *
watchdog_hook_trouble(void)
{
	SockAddr   *client = MyProcPort ? &MyProcPort->raddr : NULL;

	if (my_row != NULL)
		return NULL;
	if (client && (client->addr.ss_family == AF_INET || client->addr.ss_family == AF_INET6))
		return "This session is not known to watchdog: another library keeps its authentication hook from being called.";
	if (ClientAuthentication_hook != client_authentication)
		return "Another library has set the authentication hook, and may not call that of watchdog: sessions of client hosts are not known then.";
	return NULL;
}

Size
watchdog_table_size(void)
{
	return mul_size(wd_max_backends(), sizeof(WatchdogSession));
}

/*
 * The table, and the hook: not when this library is loaded, but when all are,
 * so that it comes first even if a later one forgets to call the hook that it
 * has found.
 */
void
watchdog_make_table(void)
{
	static bool hooked = false;
	bool		found;

	watchdog_sessions = ShmemInitStruct("watchdog sessions",
										watchdog_table_size(), &found);
	watchdog_nsessions = wd_max_backends();
	if (!found)
		memset(watchdog_sessions, 0, watchdog_table_size());
	wd_find_status_array();
	if (!hooked)				/* this runs again after a crash of a backend */
	{
		prev_client_authentication = ClientAuthentication_hook;
		ClientAuthentication_hook = client_authentication;
		(void) pthread_atfork(NULL, NULL, note_process_start);
		hooked = true;
	}
}
