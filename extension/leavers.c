/*
 * leavers.c
 *	  The terminator's part of a drain: when sessions that began before it have
 *	  to go, and what is logged of that.
 *
 * Runs in the terminator worker. What it does not remember over a restart is
 * what was logged; who has been marked or signaled says so in its row.
 */
#include "terminator.h"

#include "lib/stringinfo.h"

/* Who is left is looked at again, once there is a reason. */
#define AGAIN_MS	1000

/* So many process ids are logged. */
#define MAX_PIDS	32

/* The last pass, and the next one. */
static WatchdogDrain last;
static int64 next_pass = 0;		/* ns, CLOCK_MONOTONIC; 0: none */
static bool asked = false;		/* sessions were, which is logged */
static int	last_passes = 0;	/* in which they had to go at once */

/* One pass over all sessions. */
typedef struct Pass
{
	int			asked;			/* to end itself */
	bool		at_once;
	int			signaled;
	int			left;			/* whatever for; not those that were signaled */
	StringInfoData pids;		/* of those that were asked */
} Pass;

/* WatchdogSession.leaves of a session of which a drain wants that. */
static int64
mark_of(WatchdogLeave leave, const WatchdogDrain *drain)
{
	switch (leave)
	{
		case WD_LEAVES_IDLE:
			return drain->since;
		case WD_LEAVES_BETWEEN:
			return drain->since | WD_LEAVES_AT_ONCE;
		default:
			return 0;			/* be it again, with a longer grace */
	}
}

static void
ask_session(const WatchdogSession *session, Pass *pass)
{
	wd_ask_when_idle((int) session->pid, (int) session->backend);
	if (pass->asked < MAX_PIDS)
		appendStringInfo(&pass->pids, "%s%d", pass->asked > 0 ? ", " : "",
						 (int) session->pid);
	else if (pass->asked == MAX_PIDS)
		appendStringInfoString(&pass->pids, " and others");
	pass->asked++;
}

static void
look_at_sessions(const WatchdogDrain *drain, int64 now, Pass *pass)
{
	List	   *applications = watchdog_silence_only_applications();

	for (uint32 i = 0; i < watchdog_nsessions; i++)
	{
		WatchdogSession *row = &watchdog_sessions[i];
		WatchdogSession session;
		WatchdogLeave leave;
		int64		mark;

		if (!watchdog_read_session(i, &session) ||
			session.signaled == session.pid)
			continue;
		watchdog_current_name(&session);
		leave = watchdog_leave(drain, &session, applications, now);
		mark = mark_of(leave, drain);
		if (session.leaves != mark)
			wd_store(&row->leaves, mark);
		if (leave == WD_STAYS)
			continue;
		if (leave == WD_LEAVES_NOW &&
			watchdog_end_session(row, session.pid, 0))
			pass->signaled++;
		else
			pass->left++;
		if (mark != 0)
			ask_session(&session, pass);
		pass->at_once |= leave == WD_LEAVES_BETWEEN;
	}
}

static void
report(const Pass *pass)
{
	watchdog_count(WD_TERMINATED_DRAIN, pass->signaled);
	if (pass->signaled > 0)
		ereport(LOG,
				(errmsg("terminator: terminated connections that began before the drain: count=%d",
						pass->signaled),
				 errdetail("watchdog.drain_limit is over.")));
	if (pass->asked > 0 && !asked)
		ereport(LOG,
				(errmsg("terminator: connections that began before the drain are terminated between transactions: count=%d",
						pass->asked),
				 errdetail("watchdog.drain_grace is over.")));
	asked |= pass->asked > 0;
	if (!pass->at_once)
		return;
	/* Who was asked to go at once, and was idle, has gone by the second pass. */
	if (++last_passes == 2)
		ereport(LOG,
				(errmsg("terminator: connections that began before the drain are still in a transaction: count=%d",
						pass->asked),
				 errdetail("Processes: %s.", pass->pids.data),
				 errhint("See pg_stat_activity, or set watchdog.drain_limit.")));
}

static void
earlier(int64 at)
{
	if (next_pass == 0 || at < next_pass)
		next_pass = at;
}

/* When an end comes, and then again as long as somebody is left. */
static void
plan(int64 since, int ms, int64 now, int left)
{
	int64		at = since + ms * INT64CONST(1000000);

	if (ms >= 0 && now < at)
		earlier(at);
	else if (ms >= 0 && left > 0)
		earlier(now + AGAIN_MS * INT64CONST(1000000));
}

/*
 * Carry out what a drain wants now. Returns how many sessions were signaled.
 */
int
watchdog_serve_drain(void)
{
	WatchdogDrain drain = watchdog_current_drain();
	int64		now = wd_monotonic_now();
	Pass		pass = {0};

	if (drain.since != last.since)
	{
		asked = false;
		last_passes = 0;
	}
	else if (drain.grace_ms == last.grace_ms &&
			 drain.limit_ms == last.limit_ms &&
			 (next_pass == 0 || now < next_pass))
		return 0;
	last = drain;
	next_pass = 0;
	if (drain.since == 0)
		return 0;
	initStringInfo(&pass.pids);
	look_at_sessions(&drain, now, &pass);
	report(&pass);
	plan(drain.since, drain.grace_ms, now, pass.left);
	plan(drain.since, drain.limit_ms, now, pass.left);
	return pass.signaled;
}

/* When watchdog_serve_drain() has to be called again; 0: not by itself. */
int64
watchdog_next_leavers(void)
{
	return next_pass;
}
