/*
 * connect.h: the middle layer of the front: make a connection of what an
 * application has asked for. Stage one connects to each host of the list;
 * where that is a Connection Manager, it is asked for an instance, and stage
 * two connects to that. This layer knows wire/ and the real libpq, and
 * nothing of the application's handle: a PGconn here is a real one.
 *
 * - Options: the connection string, resolved (options.c), and how long the
 *   application waits for an instance (wait.c).
 * - Settings: what an application has set, for each real connection to come.
 * - A Connection: made step by step without blocking (connect.c), and what is
 *   left of it: the real connection, the link to conmgr and its watch, or why
 *   there is none and what was tried.
 *
 * A Connection is used by one thread at a time, as a PGconn is, and has no
 * lock. What the watcher thread shares with it is inside Watch (wire.h).
 */
#ifndef CONNECT_H
#define CONNECT_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/real.h"
#include "base/text.h"
#include "wire/wire.h"

/* ---- options.c: the connection string, resolved ---- */
typedef enum Target
{
	TARGET_ANY, TARGET_READ_WRITE, TARGET_READ_ONLY, TARGET_PRIMARY,
	TARGET_STANDBY, TARGET_PREFER_STANDBY,
	TARGET_PREFER_READ = TARGET_PREFER_STANDBY	/* the old name */
} Target;

typedef struct Options
{
	char	  **keywords;		/* all but the ones below, in libpq's order */
	char	  **values;
	int			count;
	char	   *host;			/* as the user gave them, for PQconninfo;
								 * NULL: not given */
	char	   *hostaddr;
	char	   *port;
	char	   *target_session_attrs;
	char	   *load_balance_hosts;
	Host	   *hosts;
	int			nhosts;
	Target		target;
	bool		odd_target;		/* target_session_attrs is a value that only
								 * the real libpq can judge */
	bool		strict;			/* a plain connection in the clear would be
								 * refused: sslmode=require and the like */
	bool		strict_locally; /* also by a Unix socket, where there is no
								 * TLS: require_auth and the like */
	bool		random;			/* load_balance_hosts=random */
	char	   *wait;			/* conmgr.target_wait, which is among the
								 * options; NULL: not given */
	char	   *server_options; /* them without it; NULL: as they are */
} Options;

/*
 * Both give the real connection that failed on an error of the string, NULL
 * when all is well or memory ran out (*oom).
 */
PGconn	   *options_parse(Options *o, const char *const *keywords,
						  const char *const *values, int expand_dbname,
						  bool *oom);
PGconn	   *options_parse_string(Options *o, const char *conninfo, bool *oom);
const char *options_get(const Options *o, const char *keyword);

/* ---- wait.c ---- */
int64_t		options_timeout(const Options *o);

/* ---- what an application may set at any time ---- */
typedef struct Settings
{
	PQnoticeReceiver receiver;
	void	   *receiver_arg;
	bool		receiver_set;
	PQnoticeProcessor processor;
	void	   *processor_arg;
	bool		processor_set;
	PGVerbosity verbosity;
	bool		verbosity_set;
	PGContextVisibility context;
	bool		context_set;
	FILE	   *trace;
	int			trace_flags;
	bool		nonblocking;
} Settings;

/* ---- tried.c: an attempt of the real libpq ---- */
typedef struct Tried
{
	Host		given;			/* host, hostaddr and port of it */
	char		address[64];	/* numeric, as far as known */
	bool		closed;			/* the peer had closed without a word when
								 * libpq last looked */
	char		first;			/* byte that libpq was about to read */
	PostgresPollingStatusType polled;	/* what libpq said last */
	int			silence;		/* errno of a failure without a message */
} Tried;

/* ---- the connection ---- */
typedef enum Phase
{
	PH_DONE,					/* connected, or was: sql decides */
	PH_FAILED,					/* no connection was made; err says why */
	PH_PROBE,					/* stage one, in the clear, without secrets */
	PH_STAGE1,					/* stage one, by the real libpq */
	PH_CHECK,					/* a plain server: asking an old one whether
								 * it is what the user wants */
	PH_ASK,						/* waiting for conmgr's answer */
	PH_STAGE2					/* connecting to the instance */
} Phase;

typedef struct Connection Connection;

struct addrinfo;

/*
 * The fields by phase. Who holds it writes options before connect_start, and
 * settings; all else is written by the files that are named (and set back by
 * connect.c, for each host), and only read above.
 */
struct Connection
{
	/* in every phase (sql.c, connect.c; phase: the steps) */
	PGconn	   *sql;			/* real; never NULL once begun */
	bool		blank;			/* sql is none, only something to be asked */
	Phase		phase;
	unsigned	forks;			/* fork_count of the process that used it
								 * last; also written by who adopts it in a
								 * child */

	/* configuration: who holds it */
	Options		options;
	Settings	settings;

	/*
	 * The one call upwards: gives another real connection the event
	 * procedures that sql has. False: out of memory.
	 */
	bool		(*carry_events) (Connection *c, PGconn *to);

	/* the list of hosts, while connecting (connect.c) */
	int		   *order;			/* in which they are tried */
	int			host;			/* index in order */
	int			pass;			/* prefer-standby: 0 standbys, 1 any */
	int			attempt;		/* counts the hosts tried, so that
								 * connect_timeout starts anew */
	int			restarts;		/* of this host, because the instance was lost
								 * meanwhile */
	int64_t		began;			/* this host, in ms; connect_timeout counts
								 * from then */
	size_t		err_before;		/* err was so long before it */

	/* waiting for an instance (wait.c; which hosts: connect.c) */
	bool		impatient;		/* never; who holds it writes this */
	bool		waiting;		/* in this pass */
	bool	   *waits;			/* hosts of order that are to be waited at */
	int64_t		wait_began;		/* in ms; 0: not yet */

	/* stage one, of this host (stage1.c) */
	struct addrinfo *addresses; /* of this host, once one has taken too long */
	struct addrinfo *address;	/* that is tried now; NULL: libpq looks up */
	bool		old_protocol;	/* it is asked with protocol 3.0, whatever the
								 * user wants ... */
	size_t		before_that;	/* ... and err was so long before it refused */

	/* stage two, of this host (stage2.c) */
	Text		except;			/* instances that refused */
	int			refusals;
	bool		labelled;		/* sql's session says whose it is ... */
	bool		plain;			/* ... which what answers there refuses */

	/* an attempt of either stage (tried.c, and the stage that makes it) */
	bool		bogus_host;		/* sql's host list has an entry behind the
								 * real one: see tried.c */
	Tried		tried;

	/* established: from stage two on, until the end (stage2.c, sql.c) */
	CmLink	   *link;			/* to conmgr, also in PH_PROBE, PH_ASK */
	PGconn	   *conmgr;			/* real, the owner of the link's socket; NULL:
								 * the link has its own */
	Watch	   *watch;			/* of link and sql; its inside has a lock */
	ino_t		watched_inode;	/* the SQL socket that the watch knows */

	/* closing, and replacing (sql.c) */
	bool		quiet;			/* real connections come and go now whose
								 * events the application does not see */

	/* failed: why (all steps) */
	Text		err;			/* what went wrong so far; the holder adds a
								 * reason of its own, and cuts it when shown */
	bool		reached;		/* sql's server has taken the startup packet */
	bool		rejected;		/* this host is a conmgr that shuts down */
	bool		invalid;		/* libpq did not come to try anything */
};

/* ---- connect.c ---- */
void		connection_init(Connection *c,
							bool (*carry_events) (Connection *, PGconn *));
bool		connection_begin(Connection *c, PGconn *failed);
void		connection_disconnect(Connection *c);
void		connection_end(Connection *c);
PostgresPollingStatusType connect_start(Connection *c);
PostgresPollingStatusType connect_poll(Connection *c);
PostgresPollingStatusType connect_timed_out(Connection *c);
void		connect_give_up(Connection *c);
bool		is_connecting(const Connection *c);

/* tried.c: whose PQconnectStart, PQconnectPoll runs here; NULL: none */
extern __thread Connection *connecting;

/* ---- what was tried, and where conmgr is ---- */
const char *tried_address(Connection *c);
void		tried_conninfo(const Connection *c, Text *out);
const char *conmgr_directory(const Connection *c);

static inline const Host *
current_host(const Connection *c)
{
	return &c->options.hosts[c->order[c->host]];
}

#endif							/* CONNECT_H */
