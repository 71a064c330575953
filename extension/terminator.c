/*
 * terminator.c
 *	  The terminator worker: ends the sessions of dead client hosts.
 *
 * A verdict in a slot that is not served yet is a request (see bridge.h). The
 * terminator reads the table of sessions (table.c), and does to each that the
 * verdict means (verdicts.c) what pg_terminate_backend() does. Pure C, no
 * database connection; blocks on its latch only, and on nothing that a session
 * holds.
 *
 * Walsenders end by silence only, and so do the applications that
 * watchdog.terminate_on_silence_only names. A conmgr that says goodbye, closes
 * or has given this instance up is no dead host: what replicates to that host,
 * or takes a backup of this server, goes on.
 *
 * It also ends the sessions that have to go when the server is drained
 * (leavers.c).
 *
 * A session that is still being authenticated has no row yet, and asks for the
 * verdicts itself when it has one.
 */
#include "terminator.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

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

static void
report(const Request *request)
{
	const char *cause = watchdog_cause_text(request->slot->cause);
	const char *would = request->report_only ? "would have " : "";
	const char *off = request->report_only ? " watchdog.terminate is off." : "";

	/* A verdict whose addresses are put off may mean nobody yet. */
	if (request->signaled == 0 &&
		(request->again || request->slot->ended == 0))
		return;
	if (!may_report(request))
		return;
	if (request->spared > 0)
		ereport(LOG,
				(errmsg("terminator: %sterminated connections: ipaddress=\"%s\", count=%d",
						would, request->ipaddress, request->signaled),
				 errdetail("%s Its host lives: connections that end by silence only, and are spared: %d.%s",
						   cause, request->spared, off)));
	else
		ereport(LOG,
				(errmsg("terminator: %sterminated connections: ipaddress=\"%s\", count=%d",
						would, request->ipaddress, request->signaled),
				 errdetail("%s%s", cause, off)));
}

static void
make_request(Request *request, const WatchdogSlot *slot, uint32 index,
			 uint32 verdict)
{
	memset(request, 0, sizeof(*request));
	request->slot = slot;
	request->index = index;
	request->verdict = verdict;
	request->again = slot->served == verdict;
	request->report_only = watchdog_reports_only();
	strlcpy(request->ipaddress, watchdog_address_text(slot->addr[0]),
			sizeof(request->ipaddress));
}

/* The verdict was carried out. One that has fallen since is another request. */
static void
answer(const Request *request)
{
	WatchdogSlot *slot = &watchdog_shared->slots[request->index];
	uint32		ending = WD_SLOT_ENDING;

	if (request->report_only)
		watchdog_has_reported(request->index, request->verdict);
	wd_store(&slot->served, request->verdict);
	if (wd_load(&slot->verdict) == request->verdict)
		(void) __atomic_compare_exchange_n(&slot->state, &ending,
										   WD_SLOT_FREE, false,
										   __ATOMIC_SEQ_CST,
										   __ATOMIC_SEQ_CST);
}

/* What was done, for those who ask later. */
static void
count(const Request *request)
{
	watchdog_count_cause(request->report_only ? WD_REPORTED : WD_TERMINATED,
						 request->slot->cause, request->signaled);
	watchdog_count(WD_SPARED, request->spared);
	watchdog_verdict_served(request->number, request->report_only,
							request->signaled, request->spared);
}

/*
 * Where the requests stand among the last verdicts. One that another one of its
 * slot has followed before it was served is served with that.
 */
static void
find_kept(Request *requests, int nrequests)
{
	Request   **of_slot = palloc_extended(watchdog_shared->nslots * sizeof(Request *),
										  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (int r = 0; r < nrequests; r++)
		of_slot[requests[r].index] = &requests[r];
	for (uint32 i = 0; i < watchdog_history->size; i++)
	{
		WatchdogVerdict v;
		Request    *request;

		if (!watchdog_read_verdict(i, &v) || v.verdict == 0 ||
			watchdog_verdict_value(v.served) != 0)
			continue;
		request = v.slot < watchdog_shared->nslots ? of_slot[v.slot] : NULL;
		if (request == NULL)
			continue;
		if (v.verdict == request->verdict)
			request->number = v.number;
		else if ((int32) (v.verdict - request->verdict) < 0)
			watchdog_verdict_served(v.number, request->report_only, 0, 0);
	}
	pfree(of_slot);
}

/* Is there a verdict to carry out? */
static bool
is_request(const WatchdogSlot *slot)
{
	return slot->state == WD_SLOT_ENDING || slot->verdict != slot->served;
}

static bool
any_request(void)
{
	for (uint32 i = 0; i < watchdog_shared->nslots; i++)
	{
		const WatchdogSlot *slot = &watchdog_shared->slots[i];

		if (wd_load(&slot->state) == WD_SLOT_ENDING ||
			wd_load(&slot->verdict) != wd_load(&slot->served))
			return true;
	}
	return false;
}

/* A thousand sessions take about as long to end. */
#define FIRST_AGAIN_MS	1000
#define MAX_AGAIN_MS	60000

static int	again_ms = 0;		/* until the next time; 0: nobody is left */
static int64 again_at = 0;		/* ns, CLOCK_MONOTONIC */

static void
plan_again(int ms)
{
	again_ms = ms;
	again_at = wd_monotonic_now() + ms * INT64CONST(1000000);
}

/* Who has not ended yet is signaled again, ever later. */
static void
serve_again(void)
{
	int			left;

	if (again_ms == 0 || wd_monotonic_now() < again_at)
		return;
	left = watchdog_end_again();
	if (left > 0)
		ereport(LOG,
				(errmsg("terminator: terminated connections again: count=%d", left),
				 errdetail("They have not ended yet.")));
	plan_again(left > 0 ? Min(2 * again_ms, MAX_AGAIN_MS) : 0);
}

/* How often the postmaster is woken while the watchdog worker is missing. */
#define WAKE_POSTMASTER_MS	1000

static int64 wake_postmaster_at = 0;	/* ns, CLOCK_MONOTONIC; 0: not */

/* The watchdog worker sets our latch when it ends. */
static void
check_worker(void)
{
	if (watchdog_published_latch(&watchdog_shared->worker_latch) != NULL)
		wake_postmaster_at = 0;
	else if (wd_monotonic_now() >= wake_postmaster_at)
	{
		if (wake_postmaster_at != 0)
			watchdog_wake_postmaster();
		wake_postmaster_at = wd_monotonic_now() +
			WAKE_POSTMASTER_MS * INT64CONST(1000000);
	}
}

/* The shorter one of a wait, -1: for ever, and the time until at; 0: never. */
static long
wait_until(long wait, int64 at)
{
	int64		left = at - wd_monotonic_now();

	if (at == 0)
		return wait;
	left = left > 0 ? left / 1000000 + 1 : 0;
	left = Min(left, INT_MAX);
	return wait < 0 ? (long) left : Min(wait, (long) left);
}

/* How long to wait in ms, -1: until there is something to do. */
static long
next_turn(void)
{
	long		wait = idle_left_out > 0 ? IDLE_REPORTS_MS : -1;

	wait = wait_until(wait, again_ms == 0 ? 0 : again_at);
	wait = wait_until(wait, wake_postmaster_at);
	return wait_until(wait, watchdog_next_leavers());
}

/*
 * Carry out the verdicts that were not yet, or not to the end, as this worker
 * was ended meanwhile. Those that were stand for sessions that start later, and
 * are no reason to end others: who is kept from them is decided when they fall.
 */
static void
serve_slots(void)
{
	WatchdogSlots *slots;
	Request    *requests;
	int			nrequests = 0;

	if (!any_request())
		return;
	slots = watchdog_read_slots();
	requests = palloc_extended(slots->n * sizeof(Request), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < slots->n; i++)
	{
		if (is_request(&slots->slots[i]))
			make_request(&requests[nrequests++], &slots->slots[i], i,
						 slots->slots[i].verdict);
	}
	find_kept(requests, nrequests);
	if (nrequests > 0)
		watchdog_end_sessions(slots, requests, nrequests);
	for (int r = 0; r < nrequests; r++)
	{
		report(&requests[r]);
		count(&requests[r]);
		answer(&requests[r]);
		if (requests[r].signaled > 0 && !requests[r].report_only)
			plan_again(FIRST_AGAIN_MS);
	}
	pfree(requests);
	watchdog_free_slots(slots);
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

	context = AllocSetContextCreate(TopMemoryContext, "terminator",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	plan_again(FIRST_AGAIN_MS); /* whom the one before us has signaled */
	on_shmem_exit(withdraw_latch, (Datum) 0);
	watchdog_publish_latch(&watchdog_shared->terminator_latch, MyLatch);
	watchdog_apply_drain_setting();
	serve_slots();				/* by the setting under which they have fallen */
	watchdog_apply_terminate_setting();
	if (watchdog_reports_only())
		ereport(LOG,
				(errmsg("terminator: no session of a dead client host is terminated"),
				 errdetail("watchdog.terminate is off. What would be done is logged and counted.")));
	watchdog_count(WD_TERMINATOR_STARTS, 1);

	while (!ShutdownRequestPending)
	{
		long		wait;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			serve_slots();
			ProcessConfigFile(PGC_SIGHUP);
			watchdog_apply_drain_setting();
			watchdog_apply_terminate_setting();
		}
		serve_slots();
		if (watchdog_serve_drain() > 0)
			plan_again(FIRST_AGAIN_MS);
		serve_again();
		report_left_out();
		check_worker();
		MemoryContextReset(context);
		wait = next_turn();
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
