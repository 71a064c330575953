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
 * the same request is followed up: followups.c.
 */
#include "terminator.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

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

	if (!TimestampDifferenceExceeds(idle_since, now, IDLE_REPORTS_MS) &&
		now >= idle_since)
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

void
watchdog_report(const Request *request)
{
	if (request->first && !may_report(request))
		return;
	if (request->first && request->spared > 0)
		ereport(LOG,
				(errmsg("terminator: terminated connections: ipaddress=\"%s\", count=%d",
						request->ipaddress, request->signaled),
				 errdetail("%s Its host lives: connections that end by silence only, and are spared: %d.",
						   cause_text(request->cause), request->spared)));
	else if (request->first)
		ereport(LOG,
				(errmsg("terminator: terminated connections: ipaddress=\"%s\", count=%d",
						request->ipaddress, request->signaled),
				 errdetail("%s", cause_text(request->cause))));
	else if (request->signaled > 0)
		ereport(LOG,
				(errmsg("terminator: terminated connections again: ipaddress=\"%s\", count=%d",
						request->ipaddress, request->signaled),
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
	request->silence_cutoff =
		WD_CAUSE_SPARES_WALSENDERS(slot->cause) ? 0 : cutoff;
	request->first = true;
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *) slot->addr))
		inet_ntop(AF_INET, slot->addr + 12, request->ipaddress,
				  sizeof(request->ipaddress));
	else
		inet_ntop(AF_INET6, slot->addr, request->ipaddress,
				  sizeof(request->ipaddress));
	watchdog_fold_loopback(request->addr);
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
		make_request(&requests[nrequests], &watchdog_shared->slots[i],
					 cutoff - WD_EPOCH_DIFF_US);
		slots[nrequests++] = i;
	}
	if (nrequests > 0)
		watchdog_end_sessions(requests, nrequests);
	for (int r = 0; r < nrequests; r++)
	{
		WatchdogSlot *slot = &watchdog_shared->slots[slots[r]];
		int64		expected = requests[r].cutoff + WD_EPOCH_DIFF_US;
		uint32		ending = WD_SLOT_ENDING;

		watchdog_report(&requests[r]);
		watchdog_follow_up(&requests[r]);

		/* A later cut-off than the one that we served is another request. */
		if (__atomic_compare_exchange_n(&slot->cutoff, &expected, 0, false,
										__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			(void) __atomic_compare_exchange_n(&slot->state, &ending,
											   WD_SLOT_FREE, false,
											   __ATOMIC_SEQ_CST,
											   __ATOMIC_SEQ_CST);
	}
	pfree(requests);
	pfree(slots);
	return nrequests;
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
	wd_show_in_activity();

	watchdog_make_room_for_follow_ups();
	context = AllocSetContextCreate(TopMemoryContext, "terminator",
									ALLOCSET_DEFAULT_SIZES);
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
		wait = watchdog_serve_follow_ups();
		report_left_out();
		MemoryContextReset(context);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						 (wait >= 0 ? WL_TIMEOUT : 0),
						 wait, PG_WAIT_EXTENSION);
	}

	/*
	 * Not 0, which would mean never to be started again: an administrator may
	 * have sent the signal.
	 */
	proc_exit(1);
}
