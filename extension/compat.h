/*
 * compat.h
 *	  All differences between the PostgreSQL versions that we support, 13 to 19.
 *	  The only place with PG_VERSION_NUM.
 */
#ifndef WATCHDOG_COMPAT_H
#define WATCHDOG_COMPAT_H

#if PG_VERSION_NUM < 130000 || PG_VERSION_NUM >= 200000
#error "watchdog supports PostgreSQL 13 to 19"
#endif

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 140000
#include "utils/backend_status.h"
#endif
#if PG_VERSION_NUM >= 150000
#include "access/xlogrecovery.h"
#endif
#include "storage/latch.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/* Since 18 as C11 has it, before the declaration. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Shared memory is requested in a hook of its own since 15. */
#define WD_HAVE_SHMEM_REQUEST_HOOK (PG_VERSION_NUM >= 150000)

static inline void
wd_reserve_guc_prefix(const char *prefix)
{
#if PG_VERSION_NUM >= 150000
	MarkGUCPrefixReserved(prefix);
#else
	EmitWarningsOnPlaceholders(prefix);
#endif
}

/* The timeline of a server that is not in recovery. */
static inline TimeLineID
wd_primary_timeline(void)
{
#if PG_VERSION_NUM >= 150000
	return GetWALInsertionTimeLine();
#else
	return ThisTimeLineID;		/* set when RecoveryInProgress() first says no */
#endif
}

/* Entry i, from 1, of a snapshot of all sessions. */
static inline PgBackendStatus *
wd_session(int i)
{
#if PG_VERSION_NUM >= 160000
	LocalPgBackendStatus *local = pgstat_get_local_beentry_by_index(i);
#else
	LocalPgBackendStatus *local = pgstat_fetch_stat_local_beentry(i);
#endif

	return local ? &local->backendStatus : NULL;
}

static inline void
wd_forget_sessions(void)
{
#if PG_VERSION_NUM >= 140000
	pgstat_clear_backend_activity_snapshot();
#else
	pgstat_clear_snapshot();
#endif
}

/*
 * Show this worker in pg_stat_activity. Before 17, an entry there belongs to a
 * backend id, which only processes with a database connection have.
 */
static inline void
wd_show_in_activity(void)
{
#if PG_VERSION_NUM >= 170000
	InitializeSessionUserIdStandalone();	/* whose entry it is */
	pgstat_beinit();
#if PG_VERSION_NUM >= 180000
	pgstat_bestart_initial();
	pgstat_bestart_final();
#else
	pgstat_bestart();
#endif
#endif
}

static inline WaitEventSet *
wd_create_wait_event_set(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

#endif							/* WATCHDOG_COMPAT_H */
