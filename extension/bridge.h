/*
 * bridge.h
 *	  What the C side (watchdog.so) and the Go side (watchdog_go.so) of the
 *	  watchdog worker share: plain structs in C memory, an eventfd each way,
 *	  and two exported functions.
 *
 * Included by extension/ and by cgo/; knows nothing of PostgreSQL or of Go.
 * Neither side ever waits for the other here. Fields marked "atomic" are read
 * and written with atomic operations only; all others do not change once the
 * other side can see them.
 *
 * Any change of a struct or of a meaning raises WATCHDOG_ABI_VERSION: an
 * upgraded library beside a running server must not meet an older one.
 */
#ifndef WATCHDOG_BRIDGE_H
#define WATCHDOG_BRIDGE_H

#include <stdint.h>

#define WATCHDOG_ABI_VERSION 8

/* States of a slot. */
#define WD_SLOT_FREE		0
#define WD_SLOT_CONNECTED	1	/* heartbeats go both ways */
#define WD_SLOT_WAITING		2	/* not connected, may still resume */
#define WD_SLOT_ENDING		3	/* dead: the terminator ends its sessions,
								 * then frees the slot */

/* Values of WatchdogSlot.closed; terminator/parting.go has all. */
#define WD_CLOSED_RESET		2

/* Values of WatchdogSlot.cause: by which rule sessions are ended. */
#define WD_CAUSE_NONE		0
#define WD_CAUSE_SILENCE	1
#define WD_CAUSE_GOODBYE	2
#define WD_CAUSE_GIVEN_UP	3
#define WD_CAUSE_CLOSED		4

/*
 * Only a silent host is taken for dead. By all other causes it is alive, and
 * so is what it receives from us as a standby, a base backup or a subscriber,
 * and what watchdog.terminate_on_silence_only names.
 */
#define WD_CAUSE_SPARES_WALSENDERS(cause)	((cause) != WD_CAUSE_SILENCE)

/*
 * One conmgr, in shared memory, so that it outlives a restart of the worker
 * and backends can show it.
 *
 * A verdict has two parts: the sessions with the conmgr's label, wherever they
 * come from, and those of its addresses, one by one, which may be put off for
 * the sake of other conmgrs. Both stand in the slot until it is used again, so
 * that a session that starts later finds them, also in a slot that is free.
 *
 * Owners: the Go side writes everything but served, and the state of a slot in
 * state ENDING: the terminator sets that to FREE. A verdict that is not served
 * yet is a request to the terminator, so the table itself is the queue between
 * the two: it cannot overflow, and a request survives the death of either
 * process.
 *
 * To read a slot: load serial, copy, load serial again; it is even and
 * unchanged if the copy is good. Counters and times may be newer than the
 * rest, which does no harm.
 */
#define WD_SLOT_ADDRESSES	4

typedef struct WatchdogSlot
{
	uint32_t	state;			/* atomic */
	uint32_t	serial;			/* atomic; odd while the slot is being written */
	uint8_t		id[16];			/* conmgr id */
	uint8_t		keyid[16];		/* that has made it; zeros: nothing was proved */
	uint8_t		boot[16];		/* boot id of its machine */
	uint8_t		label[16];		/* what its sessions carry: a hash of the id */
	uint8_t		heir[16];		/* label of the conmgr that has taken over what
								 * carries ours; zeros: none */

	/* addresses that it has proved, the latest first: IPv6, or IPv4-mapped */
	uint8_t		addr[WD_SLOT_ADDRESSES][16];
	uint32_t	scope[WD_SLOT_ADDRESSES];	/* zone of a link-local address,
											 * else 0 */
	int64_t		addr_time[WD_SLOT_ADDRESSES];	/* ns, CLOCK_MONOTONIC: since
												 * when, or the cut-off */
	uint8_t		naddrs;
	uint8_t		ended;			/* bit i: the verdict on addr[i] has fallen */
	uint16_t	port;			/* of the heartbeat connection, at the conmgr */
	uint8_t		closed;			/* WAITING: how the connection ended: 0
								 * broken, 1 closed by the conmgr, 2 reset, 6
								 * it has said that it will be back */
	uint8_t		cause;			/* of the verdict */
	uint8_t		remembered;		/* WAITING: it was spared, its time is over */
	uint8_t		deferred_cause; /* of the part that is put off */
	uint32_t	interval_ms;
	uint32_t	timeout_ms;
	uint64_t	generation;
	int64_t		connected_at;	/* µs since the Unix epoch: the HELLO */
	int64_t		connected_mono; /* ns, CLOCK_MONOTONIC: the same */
	int64_t		waiting_since;	/* ns, CLOCK_MONOTONIC, state WAITING */
	int64_t		last_received_mono; /* atomic; ns, CLOCK_MONOTONIC */
	int64_t		last_received_at;	/* atomic; µs since the Unix epoch */
	uint64_t	received;		/* atomic; frames */
	uint64_t	sent;			/* atomic; frames */
	uint64_t	resumed;		/* atomic; times that the conmgr resumed */
	int64_t		cutoff;			/* ns, CLOCK_MONOTONIC: sessions with the
								 * label that were heard up to then end; 0:
								 * none */
	int64_t		deferred;		/* the cut-off of the addresses whose verdict
								 * is put off; 0: none */
	uint32_t	verdict;		/* atomic; counts the verdicts in this slot */
	uint32_t	served;			/* atomic; the last one that was carried out */
	uint32_t	attempt;		/* the highest of its HELLOs; 0: it tells none */
	uint32_t	suspended;		/* verdicts that the kernel's evidence put off */
	int64_t		due;			/* ns, CLOCK_MONOTONIC, state WAITING: when the
								 * part that is put off is looked at again, or,
								 * where none is, until when it is waited for
								 * at least; 0: by its timeout */
	uint64_t	incarnation;	/* of its process; 0: not told */
	uint32_t	unasked;		/* atomic; 1: the verdict is not counted yet */
	uint32_t	grace_ms;		/* that it was granted */
} WatchdogSlot;

/*
 * The guide promises about 200 bytes a connection. What it does not have takes
 * more: identity (label, heir, addresses), proof, and what a conmgr that was
 * started again needs.
 */
_Static_assert(sizeof(WatchdogSlot) <= 344, "the documented size of a slot");

/*
 * One session of a client host, in shared memory; its index is that of its
 * process. The session writes it, the pid last, and takes the pid back at its
 * end: a copy is good if the pid is the same before and after.
 */
typedef struct WatchdogSession
{
	uint32_t	pid;			/* atomic; 0: none */
	uint32_t	scope;			/* zone of a link-local address, else 0 */
	uint8_t		addr[16];		/* of the client: IPv6, or IPv4-mapped */
	uint8_t		server[16];		/* the server's address for it */
	uint8_t		label[16];		/* conmgr.client; zeros: none */
	uint64_t	cookie;			/* SO_COOKIE; 0: not known */
	int64_t		heard;			/* ns, CLOCK_MONOTONIC: when the client was
								 * last heard, at the start of the session */
	uint32_t	signaled;		/* atomic, of the terminator: the pid, if it
								 * has been told to end */
	uint32_t	backend;		/* by which the server's own signals find it */
	int64_t		began;			/* atomic; ns, CLOCK_MONOTONIC */
	int64_t		leaves;			/* atomic, of the terminator: since when there
								 * is the drain for which it ends, and how, see
								 * drain.c; 0: none */
	void	   *status;			/* its entry in the backend status array */
	uint16_t	port;			/* of the client */
	uint16_t	server_port;
	uint8_t		walsender;
	char		application[64];	/* application_name, as it began */
	int64_t		reported;		/* atomic; the latest cut-off of the verdicts by
								 * which it would have ended, had
								 * watchdog.terminate been on; 0: none */

	/*
	 * Atomic; the number of the verdict by which the terminator has told it
	 * to end. The last field: a session that begins leaves it alone, see
	 * history.c.
	 */
	uint64_t	ended_by;
} WatchdogSession;

/*
 * The cumulative counters, in shared memory. Go adds to the first ones, which
 * heartbeat/watchdog/history.go has in that order, all others to those behind;
 * atomic. The view's function returns them as they are, so that a new one goes
 * to the end, for a new version of the extension.
 */
#define WD_REFUSED_FULL		15
#define WD_TOTALS_OF_GO		22
#define WD_TERMINATED		22	/* sessions, by cause, from silence to closed */
#define WD_TERMINATED_DRAIN	26
#define WD_REPORTED			27	/* sessions that would have been, by cause */
#define WD_SPARED			31	/* sessions that end by silence only */
#define WD_WORKER_STARTS	32
#define WD_TERMINATOR_STARTS	33
#define WD_TOTALS			34

/* Values of WatchdogVerdict.why: sessions stay; terminator/policy.go. */
#define WD_WHY_SETTING		1
#define WD_WHY_ALIVE		2
#define WD_WHY_COVERED		3

/* Values of WatchdogVerdict.served. */
#define WD_SERVED			1	/* the terminator has carried it out */
#define WD_SERVED_REPORT	2	/* watchdog.terminate is off */

/*
 * One of the last verdicts, in a ring in shared memory. Go writes all but what
 * is marked, by the rules of a slot, its number last; only then it asks the
 * terminator.
 */
typedef struct WatchdogVerdict
{
	uint32_t	serial;			/* atomic; odd while it is being written */
	uint32_t	slot;
	uint64_t	number;			/* from 1, since the server has started; 0:
								 * never used */
	uint32_t	verdict;		/* as counted in the slot; 0: none was asked for */
	uint32_t	timeout_ms;
	uint8_t		addr[16];
	uint8_t		label[16];
	uint8_t		keyid[16];
	int64_t		decided_at;		/* µs since the Unix epoch */
	int64_t		decided_mono;	/* ns, CLOCK_MONOTONIC: the same */
	int64_t		last_received_at;	/* µs since the Unix epoch */
	uint16_t	port;
	uint8_t		cause;
	uint8_t		why;			/* WD_WHY_...; 0: no session stays */

	/*
	 * Words of the terminator and of sessions, atomic: number <<
	 * WD_WORD_BITS | the value. Who comes late finds another number, and
	 * leaves it alone.
	 */
	uint64_t	served;			/* WD_SERVED...; 0: not yet */
	uint64_t	signaled;		/* sessions that were told to end, or would
								 * be */
	uint64_t	starting;		/* that were still starting, and ended
								 * themselves */
	uint64_t	spared;			/* that end by silence only */
	uint64_t	left;			/* of signaled, still there */
	uint64_t	gone_us;		/* from decided_mono until left became 0; 0:
								 * not yet */
} WatchdogVerdict;

#define WD_WORD_BITS	40

/*
 * For the writer of a slot, after it has made the serial odd: Go's atomic
 * stores keep back what was written before them, not what comes after.
 */
static inline void
wd_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Flags of WatchdogBridge.attributes, as on the wire. */
#define WD_ATTR_IN_RECOVERY		(UINT64_C(1) << 0)
#define WD_ATTR_READ_ONLY		(UINT64_C(1) << 1)
#define WD_ATTR_SHUTTING_DOWN	(UINT64_C(1) << 2)
#define WD_ATTR_DRAINING		(UINT64_C(1) << 3)

/* lag_bytes and lag_ms: it is not known how far the standby is behind. */
#define WD_LAG_UNKNOWN_BYTES	UINT64_MAX
#define WD_LAG_UNKNOWN_MS		UINT32_MAX

/* One log line on its way from Go to ereport(). */
/* So many conmgrs may die in the same moment: a switch. */
#define WD_LOG_RING		1024
#define WD_LOG_MESSAGE	320
#define WD_LOG_NOTE		224

#define WD_LOG_DEBUG	0
#define WD_LOG_LOG		1
#define WD_LOG_WARNING	2

typedef struct WatchdogLogLine
{
	int32_t		level;
	char		message[WD_LOG_MESSAGE];	/* all three are NUL-terminated */
	char		detail[WD_LOG_NOTE];	/* empty: none */
	char		hint[WD_LOG_NOTE];
} WatchdogLogLine;

/* Values of WatchdogBridge.stop. */
#define WD_RUN				0
#define WD_STOP_WORKER		1	/* the worker is restarted: conmgrs will
								 * resume */
#define WD_STOP_SERVER		2	/* the server shuts down: tell the conmgrs */

/* watchdog.authentication, as in heartbeat/watchdog/access.go. */
#define WD_AUTHENTICATION_OFF		0
#define WD_AUTHENTICATION_PREFER	1
#define WD_AUTHENTICATION_REQUIRE	2

#define WD_KEY_FILE				1024	/* MAXPGPATH */
#define WD_ALLOWED_ADDRESSES	8192
#define WD_LISTEN_ADDRESSES		8192

/* What Go tells of itself, for watchdog_doctor(); atomic, in shared memory. */
typedef struct WatchdogTold
{
	uint32_t	listening;		/* sockets */
	uint32_t	listen_failed;	/* 1: there should be others */
	uint32_t	keys;			/* in force */
	uint32_t	keys_failed;	/* 1: there should be others */
} WatchdogTold;

/* In the worker's private memory, for as long as the process lives. */
typedef struct WatchdogBridge
{
	/* by the C side before Go starts */
	uint32_t	nslots;
	WatchdogSlot *slots;		/* shared memory */
	WatchdogSession *sessions;	/* shared memory */
	uint32_t	nsessions;
	uint32_t   *report_only;	/* shared memory; atomic: watchdog.terminate is
								 * off */
	int64_t    *latest_cutoff;	/* shared memory; atomic: no verdict means a
								 * session that was heard after it */
	uint64_t   *totals;			/* shared memory; atomic: WD_TOTALS */
	WatchdogVerdict *verdicts;	/* shared memory */
	uint32_t	nverdicts;
	WatchdogTold *told;			/* shared memory */
	uint64_t   *last_verdict;	/* shared memory; atomic: its number */
	int64_t    *alive_mono;		/* shared memory, of Go; atomic: when there last
								 * was a worker, ns, CLOCK_MONOTONIC; 0: never */
	uint64_t	system_identifier;
	int64_t		postmaster_start;	/* µs since the Unix epoch */
	uint32_t	postmaster_port;	/* of SQL connections; 0 = not told */
	int32_t		to_go;			/* eventfd: something below has changed for Go */
	int32_t		to_c;			/* eventfd: something below has changed for C */

	/* C writes, Go reads */
	uint64_t	attributes;		/* atomic; flags << 32 | timeline, as on the
								 * wire */
	uint64_t	lag_bytes;		/* atomic; of a standby, as on the wire */
	uint32_t	lag_ms;			/* atomic; the same */
	uint32_t	stop;			/* atomic */
	uint32_t	terminate_on_close; /* atomic */
	uint32_t	kernel_evidence;	/* atomic */
	uint32_t	max_timeout_ms; /* atomic; longest interval and timeout of a
								 * HELLO */
	uint32_t	max_grace_ms;	/* atomic; longest grace that is granted */

	/*
	 * Who may be a conmgr, and where it may connect. Copies of all are good if
	 * access_serial is even, and the same before and after. Another one: Go
	 * reads the key file again, and looks where to listen.
	 */
	uint32_t	access_serial;	/* atomic */
	uint32_t	authentication; /* WD_AUTHENTICATION_... */
	uint32_t	min_interval_ms;	/* shortest interval of a HELLO */
	char		key_file[WD_KEY_FILE];	/* empty: none */
	char		allowed_addresses[WD_ALLOWED_ADDRESSES];	/* empty: all */
	int32_t		port;
	char		listen_addresses[WD_LISTEN_ADDRESSES];

	/*
	 * The declared succession, as on the wire; 0, 0: none. To change it,
	 * store 0 into succeeds_system, then the timeline, then succeeds_system;
	 * then wake Go.
	 */
	uint64_t	succeeds_system;	/* atomic */
	uint32_t	succeeds_timeline;	/* atomic */
	uint32_t	ping;			/* atomic; Go copies it to pong: see worker.c */

	/* Go writes, C reads */
	uint32_t	running;		/* atomic; Go's run function has begun */
	uint32_t	failed;			/* atomic; Go cannot go on: restart the worker */
	uint32_t	finished;		/* atomic; Go's run function has returned */
	uint32_t	wake_terminator;	/* atomic; a slot has got a verdict */
	uint32_t	pong;			/* atomic */

	/*
	 * log lines: Go writes at head, C reads at tail; Go drops what does not
	 * fit
	 */
	uint32_t	log_head;		/* atomic */
	uint32_t	log_tail;		/* atomic */
	uint32_t	log_dropped;	/* atomic */
	WatchdogLogLine log[WD_LOG_RING];
} WatchdogBridge;

/*
 * What watchdog_go.so exports. run() blocks until stop is set or Go fails, and
 * is called once, on a thread of its own with all signals blocked.
 */
typedef uint32_t (*watchdog_go_abi_version_fn) (void);
typedef void (*watchdog_go_run_fn) (WatchdogBridge *bridge);

#endif							/* WATCHDOG_BRIDGE_H */
