/*
 * sessions.c
 *	  The terminator's pass over all sessions: which of them a verdict means,
 *	  and their end.
 *
 * Runs in the terminator worker. Takes no lock, so that nothing which a session
 * holds can hold it up.
 */
#include "terminator.h"

#include <signal.h>

#include "miscadmin.h"

/* The name of a session that never stops changing it is the one it began with. */
#define READ_ATTEMPTS 100

/*
 * What pg_terminate_backend() does, but for its checks of privileges, and for
 * asking the process array, which has a lock: a session that has ended has
 * taken its row back. verdict: the number of the one that waits for its end.
 * true: it was told, and not by an earlier verdict.
 */
bool
watchdog_end_session(WatchdogSession *row, uint32 pid, uint64 verdict)
{
	bool		first;

	if (wd_load(&row->pid) != pid)
		return false;
	first = watchdog_expect_end(row, verdict);
	if (wd_load(&row->pid) != pid)
	{
		watchdog_has_ended(row);
		return false;
	}
	wd_store(&row->signaled, pid);
	if (kill(-(pid_t) pid, SIGTERM) == 0)
		return first;
	if (errno != ESRCH)
		ereport(WARNING,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not send signal to process %d: %m", (int) pid)));
	return false;
}

/*
 * Signal what was signaled and is there still. A session whose client takes
 * nothing any more waits for it with its last message, until it is told again.
 * Returns how many.
 */
int
watchdog_end_again(void)
{
	int			n = 0;

	for (uint32 i = 0; i < watchdog_nsessions; i++)
	{
		WatchdogSession *row = &watchdog_sessions[i];
		uint32		pid = wd_load(&row->pid);

		if (pid != 0 && wd_load(&row->signaled) == pid && watchdog_end_session(row, pid, 0))
			n++;
	}
	return n;
}

/*
 * The name that the application of a session has now, as far as its entry in
 * the backend status array tells. It has none while it starts.
 */
void
watchdog_current_name(WatchdogSession *session)
{
	volatile PgBackendStatus *entry = session->status;
	char		name[sizeof(session->application)];

	for (int i = 0; i < READ_ATTEMPTS && entry != NULL; i++)
	{
		int			before;
		int			after;
		int			pid;

		pgstat_begin_read_activity(entry, before);
		pid = entry->st_procpid;
		strlcpy(name, (char *) entry->st_appname, sizeof(name));
		pgstat_end_read_activity(entry, after);
		if (pgstat_read_activity_complete(before, after))
		{
			if (pid == (int) session->pid)
				memcpy(session->application, name, sizeof(name));
			return;
		}
		pg_spin_delay();
	}
}

/*
 * The cut-off by which the request wants the end of this session. 0: it does
 * not.
 */
static int64
wants_end_of(const WatchdogSlots *slots, Request *request,
			 const WatchdogSession *session, List *applications)
{
	int64		cutoff = watchdog_means(slots, request->slot, session);

	if (cutoff == 0)
		return 0;
	if (WD_CAUSE_SPARES_WALSENDERS(request->slot->cause) &&
		watchdog_ends_by_silence_only(session, applications))
	{
		request->spared += !(request->report_only && session->reported != 0);
		return 0;
	}
	return cutoff;
}

/*
 * Who was reported by this very verdict is not ended by it later on. And of two
 * reports only the first one counts: the session would not be there any more.
 */
static void
carry_out(Request *request, WatchdogSession *row, const WatchdogSession *session,
		  int64 cutoff)
{
	if (request->report_only)
	{
		request->signaled += session->reported == 0;
		wd_store(&row->reported, Max(cutoff, session->reported));
	}
	else if (cutoff > session->reported &&
			 watchdog_end_session(row, session->pid, request->number))
		request->signaled++;
}

/* One pass over all sessions for all requests. */
void
watchdog_end_sessions(const WatchdogSlots *slots, Request *requests,
					  int nrequests)
{
	List	   *applications = watchdog_silence_only_applications();

	wd_fence();					/* the verdicts are written */
	for (uint32 i = 0; i < watchdog_nsessions; i++)
	{
		WatchdogSession session;

		if (!watchdog_read_session(i, &session))
			continue;			/* one that starts asks for itself */
		watchdog_current_name(&session);
		for (int r = 0; r < nrequests; r++)
		{
			int64		cutoff = wants_end_of(slots, &requests[r], &session,
											  applications);

			if (cutoff != 0)
			{
				carry_out(&requests[r], &watchdog_sessions[i], &session, cutoff);
				break;
			}
		}
	}
}
