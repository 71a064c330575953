/*
 * watchdog.h
 *	  What the parts of watchdog.so share.
 *
 *	  watchdog.c    settings, registration of the workers (postmaster)
 *	  shmem.c       the shared memory (everybody)
 *	  worker.c      the watchdog worker: its main loop
 *	  gohost.c      its heartbeat thread: opens the Go library, sees how it ends
 *	  access.c      who may be a conmgr (postmaster, watchdog worker)
 *	  attributes.c  what it tells of the instance
 *	  process.c     its descriptors and signals
 *	  restarts.c    how soon it begins again after a failure
 *	  terminator.c  the terminator worker: requests, reports, its main loop
 *	  sessions.c    its pass over all sessions
 *	  table.c       the table of sessions (backends)
 *	  verdicts.c    which sessions a verdict means (terminator, backends)
 *	  succession.c  which cluster this one succeeds (backends, watchdog worker)
 *	  view.c        pgx_stat_watchdog, pgx_stat_watchdog_sessions (backends)
 */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include "postgres.h"

#include <time.h>

#include "bridge.h"
#include "compat.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/spin.h"

#define WATCHDOG_VERSION		"1.1"	/* default_version of watchdog.control */
#define WATCHDOG_TRANCHE		"watchdog"
#define WATCHDOG_WORKER_NAME	"watchdog worker"
#define TERMINATOR_WORKER_NAME	"terminator worker"

/*
 * TimestampTz counts from 2000-01-01, everything outside PostgreSQL from
 * 1970-01-01.
 */
#define WD_EPOCH_DIFF_US \
	(((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * USECS_PER_DAY)

/* Which cluster this one succeeds, up to which timeline; 0, 0: none. */
typedef struct WatchdogSuccession
{
	uint64		system_identifier;
	uint32		timeline;
} WatchdogSuccession;

/*
 * The shared memory. It is made anew when the postmaster resets all sessions:
 * the conmgrs then are strangers again, as the sessions are gone anyway.
 */
typedef struct WatchdogShared
{
	slock_t		mutex;			/* protects the latches and the succession */
	Latch	   *terminator_latch;	/* NULL while that worker does not run */
	Latch	   *worker_latch;	/* the same */
	WatchdogSuccession succession;

	/* only used by the watchdog worker, across its restarts */
	TimestampTz last_start;		/* 0: there is no failure to remember */
	int			quick_restarts; /* in a row, each after a short life */
	int			failed_starts;	/* in a row, each after hardly any life */
	int64		alive_mono;		/* WatchdogBridge has it */

	int64		latest_cutoff;	/* atomic; ns, CLOCK_MONOTONIC: of all verdicts
								 * that have ever fallen */
	uint32		nslots;
	WatchdogSlot slots[FLEXIBLE_ARRAY_MEMBER];
} WatchdogShared;

/* settings (watchdog.c) */
extern int	watchdog_port;
extern int	watchdog_check_attr_interval;
extern int	watchdog_max_heartbeat_connections;
extern char *watchdog_listen_addresses;
extern bool watchdog_terminate_on_close;
extern bool watchdog_kernel_evidence;
extern char *watchdog_terminate_on_silence_only;
extern int	watchdog_max_heartbeat_timeout;
extern List *watchdog_silence_only_applications(void);

/* access.c */
extern void watchdog_define_access_settings(void);
extern void watchdog_tell_access(WatchdogBridge *bridge);

/* shmem.c */
extern WatchdogShared *watchdog_shared;
extern WatchdogSession *watchdog_sessions;
extern uint32 watchdog_nsessions;
extern void watchdog_shmem_init(void);
extern bool watchdog_read_slot(const WatchdogSlot *slot, WatchdogSlot *copy);
extern void watchdog_publish_latch(Latch **place, Latch *latch);
extern Latch *watchdog_published_latch(Latch **place);
extern void watchdog_set_latch(Latch **place);

/* table.c */
extern Size watchdog_table_size(void);
extern void watchdog_make_table(void);
extern bool watchdog_read_session(uint32 i, WatchdogSession *copy);
extern bool watchdog_parse_label(const char *text, uint8 *label);

/* All slots as they were at one moment. */
typedef struct WatchdogSlots
{
	uint32		n;
	WatchdogSlot *slots;		/* loopback addresses are folded */
	uint32		nlabels;
	uint32	   *by_label;		/* of those that have a label */
} WatchdogSlots;

/* verdicts.c */
extern WatchdogSlots *watchdog_read_slots(void);
extern void watchdog_free_slots(WatchdogSlots *all);
extern void watchdog_fold_loopback(uint8 *addr);
extern const WatchdogSlot *watchdog_owner(const WatchdogSlots *all,
										  const WatchdogSession *session);
extern bool watchdog_is_awaited(const WatchdogSlot *slot);
extern int	watchdog_has_proved(const WatchdogSlot *slot,
								const WatchdogSession *session);
extern bool watchdog_means(const WatchdogSlots *all, const WatchdogSlot *slot,
						   const WatchdogSession *session);
extern bool watchdog_ends_by_silence_only(const WatchdogSession *session,
										  List *applications);
extern const char *watchdog_cause_text(uint8 cause);

/* succession.c */
extern WatchdogSuccession watchdog_get_succession(void);
extern void watchdog_load_succession(void);

/* gohost.c */
extern WatchdogBridge *watchdog_make_bridge(void);
extern void watchdog_start_go(void);
extern void watchdog_poke_go(void);
extern void watchdog_drain_go_log(void);
extern void watchdog_stop_go(void);
extern bool watchdog_report_go_failure(void);
extern bool watchdog_go_is_stuck(void);
pg_noreturn extern void watchdog_leave_at_once(void);

/* attributes.c */
extern bool watchdog_server_is_stopping(void);
extern uint64 watchdog_attributes(bool stopping);
extern int	watchdog_watch_data_directory(void);
extern bool watchdog_data_directory_changed(int fd);

/* lag.c */
extern void watchdog_show_lag(WatchdogBridge *bridge, int64 now);

/* process.c */
extern bool watchdog_signals_are_blocked(char *culprit, size_t size);
extern void watchdog_raise_file_limit(void);
extern void watchdog_wake_postmaster(void);

/* restarts.c */
extern void watchdog_pause_after_failures(void);
extern void watchdog_forget_failures(void);

/* entry points of the workers */
extern PGDLLEXPORT void watchdog_worker_main(Datum arg);
extern PGDLLEXPORT void watchdog_terminator_main(Datum arg);

/* CLOCK_MONOTONIC, in ns */
static inline int64
wd_monotonic_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64CONST(1000000000) + ts.tv_nsec;
}

/* atomic access to fields that Go shares with us */
#define wd_load(p)		__atomic_load_n((p), __ATOMIC_SEQ_CST)
#define wd_store(p, v)	__atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

#endif							/* WATCHDOG_H */
