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
#include "postmaster/autovacuum.h"
#include "replication/walsender.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 140000
#include "utils/backend_status.h"
#endif
#if PG_VERSION_NUM >= 150000
#include "access/xlogrecovery.h"
#endif
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "storage/shmem.h"
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

/* Somebody has paused the replay of a standby, or has asked for that. */
static inline bool
wd_replay_is_paused(void)
{
#if PG_VERSION_NUM >= 140000
	return GetRecoveryPauseState() != RECOVERY_NOT_PAUSED;
#else
	return RecoveryIsPaused();
#endif
}

/* So many processes can have a session. */
static inline int
wd_max_backends(void)
{
#if PG_VERSION_NUM >= 150000
	return MaxBackends;
#else
	/* Asked while libraries are loaded, before the server has computed it. */
	return MaxConnections + autovacuum_max_workers + 1 +
		max_worker_processes + max_wal_senders;
#endif
}

/* This process among them, from 0. */
static inline int
wd_process_number(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

/* This process, as the server's own signals know it. */
static inline int
wd_backend_number(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyBackendId;
#endif
}

/*
 * Have a session run an empty transaction as soon as it is idle, outside of
 * one, and waits for its client: the server's own way to have it catch up with
 * changes of the catalogs. Within a transaction it does no more than that.
 */
static inline void
wd_ask_when_idle(int pid, int backend)
{
	(void) SendProcSignal(pid, PROCSIG_CATCHUP_INTERRUPT, backend);
}

/*
 * End this session, which is idle, by idle_session_timeout (57P05), whatever
 * that is set to. Before 14 there is none: as pg_terminate_backend() (57P01).
 */
static inline void
wd_end_idle_session(void)
{
#if PG_VERSION_NUM >= 140000
	if (IdleSessionTimeout <= 0)
		IdleSessionTimeout = 1;
	IdleSessionTimeoutPending = true;
#else
	ProcDiePending = true;
#endif
	InterruptPending = true;
}

/*
 * Entries of the backend status array, which are read without a lock. Before
 * 14 only the server itself knows its own one.
 */
#define WD_NEEDS_STATUS_ARRAY (PG_VERSION_NUM < 140000)
#if WD_NEEDS_STATUS_ARRAY
extern PgBackendStatus *wd_status_array;
#endif

static inline void
wd_find_status_array(void)
{
#if WD_NEEDS_STATUS_ARRAY
	bool		found;

	wd_status_array = ShmemInitStruct("Backend Status Array",
									  mul_size(sizeof(PgBackendStatus),
											   MaxBackends + NUM_AUXPROCTYPES),
									  &found);
#endif
}

static inline PgBackendStatus *
wd_status_entry(void)
{
#if WD_NEEDS_STATUS_ARRAY
	return &wd_status_array[MyBackendId - 1];
#else
	return MyBEEntry;
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
