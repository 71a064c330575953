/*
 * drain.c
 *	  Draining: this server is to be left, session by session, before it is
 *	  stopped or switched over.
 *
 * Whether it drains is one word in shared memory, which the setting and the
 * function change, each its own bit: no lock, and nothing is written anywhere,
 * so that a standby can be drained. The watchdog worker tells the conmgrs. What
 * that wants of a session is decided in verdicts.c, and only the terminator
 * acts on it.
 *
 * A session that is to end between transactions ends itself. The terminator
 * marks its row and sends the server's own interrupt by which an idle session
 * catches up with the catalogs: it then runs an empty transaction, at whose end
 * we are asked. There, and only there, nothing can be broken: the session reads
 * its next command, and is in no transaction. One that is busy sends the same
 * interrupt to itself at the end of each transaction; it waits until the
 * session has told its client that it is ready.
 *
 * Runs in backends, in the terminator, and in the postmaster when it makes the
 * shared memory. Takes no lock, blocks on nothing.
 */
#include "watchdog.h"

#include <sys/socket.h>

#undef ENABLE_GSS
#undef USE_OPENSSL
#undef USE_SSL
#include "access/xact.h"
#include "fmgr.h"
#include "libpq/libpq.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(watchdog_drain);

static bool watchdog_draining;
static int	watchdog_drain_grace;
static int	watchdog_drain_limit;

/* Pools look at a connection first that has been idle for this long. */
#define LONG_IDLE_MS	1000

static WatchdogSession *own_row = NULL;
static int64 last_end = 0;		/* of a transaction while the server is drained;
								 * ns, CLOCK_MONOTONIC */

void
watchdog_define_drain_settings(void)
{
	DefineCustomBoolVariable("watchdog.draining",
							 "Whether this server is to be left: conmgr processes offer it to nobody.",
							 "So does watchdog_drain(), until the server is restarted.",
							 &watchdog_draining,
							 false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("watchdog.drain_grace",
							"Time after which sessions that began before a drain are ended between transactions.",
							"If -1, they are not.",
							&watchdog_drain_grace,
							-1, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("watchdog.drain_limit",
							"Time after which sessions that began before a drain are ended in transactions, too.",
							"If -1, they are not.",
							&watchdog_drain_limit,
							-1, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* Set or take back one of the bits. false: it was so already. */
static bool
set_drain(uint64 by, bool on)
{
	uint64		old = wd_load(&watchdog_shared->drain);
	uint64		new;

	do
	{
		if (on)
			new = old != 0 ? old | by :
				((uint64) wd_monotonic_now() & ~WD_DRAIN_BY) | by;
		else
			new = (old & WD_DRAIN_BY & ~by) != 0 ? old & ~by : 0;
		if (new == old)
			return false;
	} while (!__atomic_compare_exchange_n(&watchdog_shared->drain, &old, new,
										  false, __ATOMIC_SEQ_CST,
										  __ATOMIC_SEQ_CST));
	return true;
}

/* The drain that there is, with what the settings want of it. */
WatchdogDrain
watchdog_current_drain(void)
{
	return (WatchdogDrain)
	{
		.since = (int64) (wd_load(&watchdog_shared->drain) & ~WD_DRAIN_BY),
			.grace_ms = watchdog_drain_grace,
			.limit_ms = watchdog_drain_limit
	};
}

bool
watchdog_is_drained(void)
{
	return wd_load(&watchdog_shared->drain) != 0;
}

/*
 * New shared memory: the server has started, or has reset itself. The setting
 * holds from the first session on, what was called is forgotten.
 */
void
watchdog_init_drain(void)
{
	(void) set_drain(WD_DRAIN_BY_SETTING, watchdog_draining);
}

/* Everybody is told by the watchdog worker; sessions are the terminator's. */
static void
change_drain(uint64 by, bool on, const char *how)
{
	if (!set_drain(by, on))
		return;
	if (on || watchdog_is_drained())
		ereport(LOG,
				(errmsg("this server is drained: conmgr processes offer it to nobody"),
				 errdetail("%s is %s.", how, on ? "on" : "off")));
	else
		ereport(LOG,
				(errmsg("this server is not drained any more"),
				 errdetail("%s is off.", how)));
	watchdog_set_latch(&watchdog_shared->worker_latch);
	watchdog_set_latch(&watchdog_shared->terminator_latch);
}

/* The terminator alone: of two processes, one may have an old setting. */
void
watchdog_apply_drain_setting(void)
{
	change_drain(WD_DRAIN_BY_SETTING, watchdog_draining, "watchdog.draining");
}

/*
 * Whether the server is drained then. The session that asks for it is none of
 * those that have to go: it may want to see them go.
 */
Datum
watchdog_drain(PG_FUNCTION_ARGS)
{
	bool		on = PG_GETARG_BOOL(0);

	if (on && own_row != NULL)
		wd_store(&own_row->began, PG_INT64_MAX);
	change_drain(WD_DRAIN_BY_CALL, on, "The state of watchdog_drain()");
	if (on && own_row != NULL)
		wd_store(&own_row->began, wd_monotonic_now());
	if (!on && watchdog_is_drained())
		ereport(NOTICE,
				(errmsg("this server is still drained"),
				 errdetail("watchdog.draining is on.")));
	PG_RETURN_BOOL(watchdog_is_drained());
}

/* How this session has to leave: WD_STAYS, or what it does itself. */
static WatchdogLeave
how_to_leave(int64 since)
{
	int64		leaves = wd_load(&own_row->leaves);

	/* The mark may mean a drain that is over, or the row's last owner. */
	if (since == 0 || (leaves & ~WD_LEAVES_AT_ONCE) != since ||
		wd_load(&own_row->began) >= since)
		return WD_STAYS;
	return (leaves & WD_LEAVES_AT_ONCE) ? WD_LEAVES_BETWEEN : WD_LEAVES_IDLE;
}

/* Has the client sent something that was not read yet? */
static bool
input_waits(void)
{
	char		c;

	return recv(MyProcPort->sock, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void
leave_when_idle(WatchdogLeave how, int64 since)
{
	int64		idle_since = Max(since, last_end);

	if (how == WD_LEAVES_IDLE &&
		wd_monotonic_now() - idle_since < LONG_IDLE_MS * INT64CONST(1000000))
		return;
	if (!input_waits())
	{
		watchdog_count(WD_TERMINATED_DRAIN, 1);
		wd_end_idle_session();
	}
}

/*
 * At the end of a transaction nothing may be interrupted: the client has not
 * been told yet, and there may be more of its message to do. Only while the
 * next command is awaited; if that is there already, it is served first.
 */
static void
transaction_ends(XactEvent event, void *arg)
{
	int64		since = watchdog_current_drain().since;
	WatchdogLeave how;

	if (since == 0 || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
					   event != XACT_EVENT_PREPARE))
		return;
	how = how_to_leave(since);
	if (!pq_is_reading_msg())
	{
		last_end = wd_monotonic_now();
		if (how == WD_LEAVES_BETWEEN)
			wd_ask_when_idle(MyProcPid, (int) own_row->backend);
	}
	else if (how != WD_STAYS)
		leave_when_idle(how, since);
}

/* This session has written its row. */
void
watchdog_await_drain(WatchdogSession *row)
{
	own_row = row;
	RegisterXactCallback(transaction_ends, NULL);
}
