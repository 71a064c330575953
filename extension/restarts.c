/*
 * restarts.c
 *	  How soon a watchdog worker that has failed begins again.
 *
 * Runs in the watchdog worker, at its start, before it opens anything; blocks
 * on the worker's latch for as long as the pause lasts.
 *
 * The postmaster starts the worker again at once, so that a crash costs no
 * heartbeat. What fails at each start (a library that is missing, damaged or
 * of another version) would then fail some 80 times a second, with as many
 * lines in the log: so the pauses grow while lives are short. An end on
 * request is no failure. Times are of CLOCK_MONOTONIC: a clock that is set back
 * must not make a pause an hour.
 */
#include "watchdog.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"

/* A worker that lived shorter has failed at its start, or quickly. */
#define FAILED_START_MS	1000
#define SHORT_LIFE_MS	10000

#define FREE_STARTS		1		/* failed starts in a row without a pause */
#define FREE_RESTARTS	10		/* quick failures in a row without a pause */
#define MAX_PAUSE_S		30

/* Was the last start longer ago, or is there none? */
static bool
was_before(int64 last, int64 now, int ms)
{
	return last == 0 || now - last >= ms * INT64CONST(1000000);
}

/* Count this start, and return how long it has to wait, in seconds. */
static int
count_start(int64 now)
{
	int64		last = watchdog_shared->last_start;
	int			doublings;

	if (was_before(last, now, FAILED_START_MS))
		watchdog_shared->failed_starts = 0;
	else
		watchdog_shared->failed_starts++;
	if (was_before(last, now, SHORT_LIFE_MS))
		watchdog_shared->quick_restarts = 0;
	else
		watchdog_shared->quick_restarts++;
	doublings = Max(watchdog_shared->failed_starts - FREE_STARTS,
					watchdog_shared->quick_restarts - FREE_RESTARTS);
	if (doublings <= 0)
		return 0;
	return Min(1 << Min(doublings - 1, 10), MAX_PAUSE_S);
}

/* A reload ends the pause: what was wrong may have been mended. */
void
watchdog_pause_after_failures(void)
{
	int64		now = wd_monotonic_now();
	int64		until = now + count_start(now) * INT64CONST(1000000000);

	while (now < until && !ShutdownRequestPending && !ConfigReloadPending)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (until - now) / 1000000 + 1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		now = wd_monotonic_now();
	}
	watchdog_shared->last_start = now;	/* the pause is no life */
}

/* The worker ends because somebody wants it to. */
void
watchdog_forget_failures(void)
{
	watchdog_shared->last_start = 0;
}
