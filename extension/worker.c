/*
 * worker.c
 *	  The watchdog worker: a background worker that tells the heartbeat
 *	  thread (gohost.c) of the instance's attributes and settings, and looks
 *	  after it.
 *
 * All of this is the main thread's, which blocks in its wait event set only.
 *
 * Whatever happens to Go ends in exit status 1: the postmaster then starts this
 * worker again and leaves all sessions alone. Exit status 0 would mean that
 * the worker is never started again, and any other one that the postmaster
 * resets all sessions.
 */
#include "watchdog.h"

#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define PING_INTERVAL_MS	1000
#define PING_LIMIT			10	/* unanswered pings until Go counts as hung */

/* Until a missing terminator is reported, and until it is again. */
#define TERMINATOR_PINGS	5
#define NAG_PINGS			60

/* The clock was set: more than any discipline of it moves it in a ping. */
#define CLOCK_STEP_US	(1000 * INT64CONST(1000))

/* Between checks of the attributes while they may be about to change. */
#define CLOSE_LOOK_MS		10
#define CLOSE_LOOK_TIME_MS	10000

static WatchdogBridge *bridge = NULL;

static void
withdraw_latch(int code, Datum arg)
{
	watchdog_publish_latch(&watchdog_shared->worker_latch, NULL);
	watchdog_set_latch(&watchdog_shared->terminator_latch); /* see check_worker() */
}

/* Go reads the two in this order: see the rule at their declaration. */
static void
show_succession(void)
{
	WatchdogSuccession s = watchdog_get_succession();

	if (s.system_identifier == bridge->succeeds_system &&
		s.timeline == bridge->succeeds_timeline)
		return;
	wd_store(&bridge->succeeds_system, 0);
	wd_store(&bridge->succeeds_timeline, s.timeline);
	wd_store(&bridge->succeeds_system, s.system_identifier);
	watchdog_poke_go();
}

/* A drain has begun, or has ended: everybody is told at once. */
static bool
drain_is_news(void)
{
	uint64		flags = bridge->attributes >> 32;

	return ((flags & WD_ATTR_DRAINING) != 0) != watchdog_is_drained();
}

/* What the main loop has to remember from turn to turn. */
typedef struct MainLoop
{
	int			directory;		/* tells of changes in the data directory; -1:
								 * cannot be watched */
	TimestampTz now;			/* of this turn */
	TimestampTz next_attributes;
	TimestampTz next_ping;
	TimestampTz close_look_until;
	int64		clock_ahead;	/* of CLOCK_MONOTONIC, in us; 0: not known */
	int			unanswered;		/* pings */
	int			without_terminator; /* pings */
	bool		checked_signals;
	bool		stopping;		/* the server shuts down */
} MainLoop;

/*
 * Is something due that is done every interval_ms? A clock that was set back
 * does not put it off.
 */
static bool
is_due(TimestampTz now, TimestampTz next, int interval_ms)
{
	return now >= next || now < next - interval_ms * INT64CONST(1000);
}

static WaitEventSet *
make_wait_event_set(int directory)
{
	WaitEventSet *set = wd_create_wait_event_set(4);

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, bridge->to_c, NULL, NULL);
	if (directory >= 0)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, directory, NULL, NULL);
	return set;
}

/*
 * Go's wake-ups and the latch are taken back before what they stand for is
 * looked at.
 */
static void
clear_wake_ups(void)
{
	uint64_t	count;

	if (read(bridge->to_c, &count, sizeof(count)) < 0 &&
		errno != EAGAIN && errno != EINTR)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not read from an event descriptor: %m")));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
reload_settings(MainLoop *loop)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	wd_store(&bridge->terminate_on_close, watchdog_terminate_on_close);
	wd_store(&bridge->kernel_evidence, watchdog_kernel_evidence);
	wd_store(&bridge->max_timeout_ms, watchdog_max_heartbeat_timeout);
	wd_store(&bridge->max_grace_ms, watchdog_max_application_grace);
	watchdog_tell_access(bridge);
	watchdog_poke_go();
	loop->next_attributes = 0;
}

/* Once, as soon as Go runs. */
static void
check_signals(MainLoop *loop)
{
	char		culprit[64];

	if (loop->checked_signals || !wd_load(&bridge->running))
		return;
	loop->checked_signals = true;
	if (!watchdog_signals_are_blocked(culprit, sizeof(culprit)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("the heartbeat library does not block %s", culprit)));
}

/* A promotion or a shutdown shows in the data directory first. */
static void
watch_directory(MainLoop *loop)
{
	if (!watchdog_data_directory_changed(loop->directory))
		return;
	loop->stopping = watchdog_server_is_stopping();
	loop->close_look_until = loop->now + CLOSE_LOOK_TIME_MS * INT64CONST(1000);
	loop->next_attributes = 0;
}

/*
 * A hang of Go is a failure too. Counted, not timed: a process that was
 * stopped does not hang.
 */
static void
check_pong(MainLoop *loop)
{
	if (wd_load(&bridge->pong) == wd_load(&bridge->ping))
		loop->unanswered = 0;
	else if (++loop->unanswered >= PING_LIMIT)
	{
		ereport(WARNING,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("the heartbeat thread hangs: the watchdog worker is restarted")));
		watchdog_leave_at_once();
	}
}

static void
check_terminator(MainLoop *loop)
{
	if (watchdog_published_latch(&watchdog_shared->terminator_latch) != NULL)
	{
		loop->without_terminator = 0;
		return;
	}
	watchdog_wake_postmaster();
	if (loop->without_terminator++ % NAG_PINGS == TERMINATOR_PINGS)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the terminator worker does not run: sessions of dead clients are not terminated"),
				 errhint("If it does not come back, raise max_worker_processes, "
						 "of which watchdog needs two.")));
}

/* Nothing is decided by the wall clock, but whoever reads times should know. */
static void
watch_clock(MainLoop *loop)
{
	int64		ahead = GetCurrentTimestamp() - wd_monotonic_now() / 1000;
	int64		by = loop->clock_ahead == 0 ? 0 : ahead - loop->clock_ahead;

	loop->clock_ahead = ahead;
	if (by > -CLOCK_STEP_US && by < CLOCK_STEP_US)
		return;
	wd_store(&watchdog_shared->clock_set_by, by);
	wd_store(&watchdog_shared->clock_set_mono, wd_monotonic_now());
	ereport(LOG,
			(errmsg("the clock of this machine was set by %.1f s, or the machine was suspended", by / 1e6),
			 errdetail("No verdict depends on it, but times in the log and in views do.")));
}

static void
ping(MainLoop *loop)
{
	if (!is_due(loop->now, loop->next_ping, PING_INTERVAL_MS))
		return;
	watch_clock(loop);
	loop->stopping = watchdog_server_is_stopping();
	check_pong(loop);
	check_terminator(loop);
	wd_store(&bridge->ping, wd_load(&bridge->ping) + 1);
	watchdog_poke_go();
	loop->next_ping = loop->now + PING_INTERVAL_MS * INT64CONST(1000);
}

static void
show_attributes(MainLoop *loop)
{
	uint64		attributes;
	int			interval = watchdog_check_attr_interval;

	if (!is_due(loop->now, loop->next_attributes, interval))
		return;
	attributes = watchdog_attributes(loop->stopping);
	if (attributes != bridge->attributes)
	{
		wd_store(&bridge->attributes, attributes);
		watchdog_poke_go();
	}
	if (loop->now < loop->close_look_until)
		interval = Min(CLOSE_LOOK_MS, interval);
	loop->next_attributes = loop->now + interval * INT64CONST(1000);
}

/* Serve until there is a reason to end. */
static void
main_loop(void)
{
	MainLoop	loop = {
		.directory = watchdog_watch_data_directory(),
		.stopping = watchdog_server_is_stopping()
	};
	WaitEventSet *set = make_wait_event_set(loop.directory);

	for (;;)
	{
		WaitEvent	event;
		TimestampTz next;

		clear_wake_ups();
		if (__atomic_exchange_n(&bridge->wake_terminator, 0, __ATOMIC_SEQ_CST))
			watchdog_set_latch(&watchdog_shared->terminator_latch);
		show_succession();
		watchdog_drain_go_log();
		if (ShutdownRequestPending || wd_load(&bridge->failed) ||
			wd_load(&bridge->finished))
			break;
		if (ConfigReloadPending)
			reload_settings(&loop);
		check_signals(&loop);

		loop.now = GetCurrentTimestamp();
		watch_directory(&loop);
		if (drain_is_news())
			loop.next_attributes = 0;
		ping(&loop);
		show_attributes(&loop);
		watchdog_show_lag(bridge, wd_monotonic_now());

		next = Min(loop.next_ping, loop.next_attributes);
		(void) WaitEventSetWait(set, next > loop.now ?
								(next - loop.now + 999) / 1000 : 0,
								&event, 1, PG_WAIT_EXTENSION);
	}
}

void
watchdog_worker_main(Datum arg)
{
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	wd_show_in_activity();

	watchdog_pause_after_failures();
	watchdog_load_succession();
	watchdog_count(WD_WORKER_STARTS, 1);
	on_shmem_exit(withdraw_latch, (Datum) 0);
	watchdog_publish_latch(&watchdog_shared->worker_latch, MyLatch);
	bridge = watchdog_make_bridge();
	show_succession();
	watchdog_raise_file_limit();
	if (!ShutdownRequestPending)
	{
		watchdog_start_go();
		main_loop();
	}
	if (!watchdog_report_go_failure())
	{
		watchdog_stop_go();
		watchdog_forget_failures();
	}
	if (watchdog_go_is_stuck())
		watchdog_leave_at_once();
	proc_exit(1);				/* see above: never 0 */
}
