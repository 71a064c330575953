/*
 * report.c
 *	  watchdog.terminate: off, everything is decided, logged and counted, and no
 *	  session of a dead host is ended.
 *
 * The setting is the terminator's to carry over into shared memory, as two
 * processes might see a reload in different order, and the postmaster's, when
 * it makes the memory. What was decided while it was off stays a report when it
 * is on again: each slot remembers which verdict that was, for sessions that
 * start later, and each session by which cut-off it would have been ended, for
 * the terminator. Who is silent after that is a new verdict.
 *
 * Runs in the terminator, in sessions that start, and in the postmaster. Takes
 * no lock, blocks on nothing.
 */
#include "watchdog.h"

#include "storage/shmem.h"
#include "utils/guc.h"

static bool watchdog_terminate;

/* For each slot, the last verdict that was only reported; atomic. */
static uint32 *reported = NULL;

void
watchdog_define_report_settings(void)
{
	DefineCustomBoolVariable("watchdog.terminate",
							 "Whether sessions of dead client hosts are terminated.",
							 "If off, the log and the views tell what would be done.",
							 &watchdog_terminate,
							 true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
}

Size
watchdog_report_size(void)
{
	return mul_size(watchdog_max_heartbeat_connections, sizeof(uint32));
}

void
watchdog_make_report(void)
{
	bool		found;

	reported = ShmemInitStruct("watchdog reports", watchdog_report_size(), &found);
	if (found)
		return;
	memset(reported, 0, watchdog_report_size());
	watchdog_shared->report_only = !watchdog_terminate;
}

bool
watchdog_reports_only(void)
{
	return wd_load(&watchdog_shared->report_only) != 0;
}

/* The terminator alone, when it has served what was decided before. */
void
watchdog_apply_terminate_setting(void)
{
	if (watchdog_reports_only() == !watchdog_terminate)
		return;
	wd_store(&watchdog_shared->report_only, !watchdog_terminate);
	if (watchdog_terminate)
		ereport(LOG,
				(errmsg("terminator: sessions of dead client hosts are terminated from now on"),
				 errdetail("watchdog.terminate is on. Nobody is terminated by what was decided before.")));
	else
		ereport(LOG,
				(errmsg("terminator: no session of a dead client host is terminated from now on"),
				 errdetail("watchdog.terminate is off. What would be done is logged and counted.")));
}

/* The terminator has served a verdict, and has only reported it. */
void
watchdog_has_reported(uint32 slot, uint32 verdict)
{
	wd_store(&reported[slot], verdict);
}

/* Is nobody ended by a verdict that stands, when it is asked for now? */
bool
watchdog_was_reported(uint32 slot, uint32 verdict)
{
	return watchdog_reports_only() || wd_load(&reported[slot]) == verdict;
}
