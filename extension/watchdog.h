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
 *	  leavers.c     its part of a drain
 *	  table.c       the table of sessions (backends)
 *	  verdicts.c    which sessions a verdict means (terminator, backends)
 *	  succession.c  which cluster this one succeeds (backends, watchdog worker)
 *	  drain.c       which sessions have to go before this server stops (all)
 *	  report.c      watchdog.terminate: whether anybody is ended by a verdict (all)
 *	  history.c     the last verdicts, and pgx_stat_watchdog_verdicts (all)
 *	  totals.c      counters, and pgx_stat_watchdog_totals (all)
 *	  doctor.c      watchdog_doctor() (backends)
 *	  view.c        pgx_stat_watchdog, pgx_stat_watchdog_sessions (backends)
 */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include "postgres.h"

#include <time.h>

#include "bridge.h"
#include "compat.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/spin.h"
#include "utils/tuplestore.h"

/* default_version of watchdog.control: of the objects that this library serves */
#define WATCHDOG_SQL_VERSION	"1.2"

/* of the sources, by scripts/version */
#ifndef WATCHDOG_VERSION
#define WATCHDOG_VERSION		WATCHDOG_SQL_VERSION
#endif

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
	int64		last_start;		/* ns, CLOCK_MONOTONIC; 0: there is no failure
								 * to remember */
	int			quick_restarts; /* in a row, each after a short life */
	int			failed_starts;	/* in a row, each after hardly any life */
	int64		alive_mono;		/* WatchdogBridge has it */

	int64		latest_cutoff;	/* atomic; ns, CLOCK_MONOTONIC: of all verdicts
								 * that have ever fallen */
	/*
	 * Atomic; since when this server is drained, ns, CLOCK_MONOTONIC, and in
	 * the two lowest bits by what. 0: it is not.
	 */
	uint64		drain;

	WatchdogTold told;
	int64		clock_set_by;	/* atomic; us, the last step of the clock */
	int64		clock_set_mono; /* atomic; ns, CLOCK_MONOTONIC: when that was seen,
								 * 0: never */

	uint32		report_only;	/* atomic; watchdog.terminate is off */
	uint64		totals[WD_TOTALS];	/* atomic */
	TimestampTz totals_since;	/* atomic */

	uint32		nslots;
	WatchdogSlot slots[FLEXIBLE_ARRAY_MEMBER];
} WatchdogShared;

/* The last verdicts: see history.c. */
typedef struct WatchdogHistory
{
	uint64		last;			/* atomic; the number of the last one */
	uint32		size;
	WatchdogVerdict verdicts[FLEXIBLE_ARRAY_MEMBER];
} WatchdogHistory;

#define WD_DRAIN_BY_SETTING		UINT64CONST(1)	/* watchdog.draining */
#define WD_DRAIN_BY_CALL		UINT64CONST(2)	/* watchdog_drain() */
#define WD_DRAIN_BY				UINT64CONST(3)

/* settings (watchdog.c) */
extern int	watchdog_port;
extern int	watchdog_check_attr_interval;
extern int	watchdog_max_heartbeat_connections;
extern char *watchdog_listen_addresses;
extern bool watchdog_terminate_on_close;
extern bool watchdog_kernel_evidence;
extern char *watchdog_terminate_on_silence_only;
extern int	watchdog_max_heartbeat_timeout;
extern int	watchdog_max_application_grace;
extern List *watchdog_silence_only_applications(void);

/* access.c */
extern void watchdog_define_access_settings(void);
extern void watchdog_tell_access(WatchdogBridge *bridge);

/* What is set of that. */
typedef struct WatchdogAccess
{
	bool		authenticates;	/* conmgrs prove who they are, if they have a key */
	const char *key_file;		/* empty: none */
} WatchdogAccess;

extern WatchdogAccess watchdog_access(void);
extern const char *watchdog_key_file_trouble(const char *path);

/* shmem.c */
extern WatchdogShared *watchdog_shared;
extern WatchdogSession *watchdog_sessions;
extern uint32 watchdog_nsessions;
extern void watchdog_shmem_init(void);
extern bool watchdog_read_serial(const uint32 *serial, const void *from,
								 void *copy, Size size);
extern bool watchdog_read_slot(const WatchdogSlot *slot, WatchdogSlot *copy);
extern void watchdog_publish_latch(Latch **place, Latch *latch);
extern Latch *watchdog_published_latch(Latch **place);
extern void watchdog_set_latch(Latch **place);

/* table.c */
extern Size watchdog_table_size(void);
extern void watchdog_make_table(void);
extern bool watchdog_read_session(uint32 i, WatchdogSession *copy);
extern const char *watchdog_hook_trouble(void);
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
extern int64 watchdog_means(const WatchdogSlots *all, const WatchdogSlot *slot,
							const WatchdogSession *session);
extern bool watchdog_ends_by_silence_only(const WatchdogSession *session,
										  List *applications);
extern const char *watchdog_cause_text(uint8 cause);

/* A drain of this server, and what the settings want of it. */
typedef struct WatchdogDrain
{
	int64		since;			/* ns, CLOCK_MONOTONIC; 0: there is none */
	int			grace_ms;		/* watchdog.drain_grace; -1: for ever */
	int			limit_ms;		/* watchdog.drain_limit; -1: none */
} WatchdogDrain;

/* What it wants of a session. */
typedef enum WatchdogLeave
{
	WD_STAYS,
	WD_LEAVES,					/* as soon as its client likes */
	WD_LEAVES_IDLE,				/* it is ended when it has been idle for long */
	WD_LEAVES_BETWEEN,			/* it is ended between transactions */
	WD_LEAVES_NOW				/* it is ended */
} WatchdogLeave;

/* In the lowest bit of WatchdogSession.leaves: WD_LEAVES_BETWEEN. */
#define WD_LEAVES_AT_ONCE	INT64CONST(1)

extern WatchdogLeave watchdog_leave(const WatchdogDrain *drain,
									const WatchdogSession *session,
									List *applications, int64 now);

/* drain.c */
extern void watchdog_define_drain_settings(void);
extern void watchdog_init_drain(void);
extern void watchdog_apply_drain_setting(void);
extern WatchdogDrain watchdog_current_drain(void);
extern bool watchdog_is_drained(void);
extern void watchdog_await_drain(WatchdogSession *row);

/* report.c */
extern void watchdog_define_report_settings(void);
extern Size watchdog_report_size(void);
extern void watchdog_make_report(void);
extern bool watchdog_reports_only(void);
extern void watchdog_apply_terminate_setting(void);
extern void watchdog_has_reported(uint32 slot, uint32 verdict);
extern bool watchdog_was_reported(uint32 slot, uint32 verdict);

/* history.c */
extern WatchdogHistory *watchdog_history;
extern void watchdog_define_history_settings(void);
extern Size watchdog_history_size(void);
extern void watchdog_make_history(void);
extern bool watchdog_read_verdict(uint32 i, WatchdogVerdict *copy);
extern uint64 watchdog_find_verdict(uint32 slot, uint32 verdict);
extern int64 watchdog_verdict_value(uint64 word);
extern void watchdog_verdict_served(uint64 number, bool report_only,
									int signaled, int spared);
extern void watchdog_verdict_starting(uint64 number);
extern bool watchdog_expect_end(WatchdogSession *row, uint64 number);
extern void watchdog_has_ended(WatchdogSession *row);

/* totals.c */
extern void watchdog_count(int total, uint64 n);
extern void watchdog_count_cause(int first, uint8 cause, uint64 n);
extern void watchdog_reset_totals(void);
extern bool watchdog_is_protected(const WatchdogSlots *slots,
								  const WatchdogSession *session);

/* view.c */
extern const char *watchdog_address_text(const uint8 *addr);
extern Datum watchdog_inet(const uint8 *addr);
extern Datum watchdog_uuid(const uint8 *label);
extern Datum watchdog_keyid(const uint8 *keyid);
extern TimestampTz watchdog_timestamp(int64 unix_us);
extern Tuplestorestate *watchdog_begin_rows(FunctionCallInfo fcinfo, int natts,
											int older, TupleDesc *desc);

/* sessions.c */
extern void watchdog_current_name(WatchdogSession *session);

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
extern uint64 watchdog_needed_files(void);
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
