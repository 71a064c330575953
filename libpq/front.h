/*
 * front.h: what the files of the libpq front share. Include this before anything else.
 *
 * The front has libpq's ABI and stands before the installed ("real") libpq. An application's PGconn * is a Front of ours around real
 * PGconns. Types: PGconn * is either; a Front * is ours; Front.sql and CmLink.real are always real ones.
 *
 * Threads: a Front is used by one thread at a time, as a PGconn is. What the watcher thread shares with it is inside Watch
 * (watcher.c). There is no other global state but the table of the real functions, written once at load.
 */
#ifndef FRONT_H
#define FRONT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <libpq-fe.h>
#include <libpq-events.h>
#include "libpq-cm.h"

#undef PQfreeNotify

/* Exported by libpq, but not in its public headers. */
typedef struct PQExpBufferData *PQExpBuffer;
typedef void (*pqsigfunc) (int signo);

/* Newer than the headers of the build may be: all functions are forwarded, whichever libpq is there at run time. */
#ifndef LIBPQ_HAS_PIPELINING	/* 14 */
typedef unsigned PGpipelineStatus;
#endif
#ifndef LIBPQ_HAS_ASYNC_CANCEL	/* 17 */
typedef struct pg_cancel_conn PGcancelConn;
#endif
#ifndef LIBPQ_HAS_SOCKET_POLL	/* 17 */
typedef int64_t pg_usec_time_t;
#endif
#ifndef LIBPQ_HAS_PROMPT_OAUTH_DEVICE	/* 18 */
typedef unsigned PGauthData;
typedef int (*PQauthDataHook_type) (PGauthData type, PGconn *conn, void *data);
#endif

#include "cm.h"
#include "real.h"

#define EXPORT __attribute__((visibility("default")))

/* ---- real.c ---- */
typedef struct RealName
{
	const char *name;
	size_t		offset;
} RealName;

extern RealLibpq real;
extern const RealName real_names[];
extern const char *real_problem;	/* why the real libpq could not be loaded, or NULL */

/* ---- text.c: a growing string that remembers when memory ran out ---- */
typedef struct Text
{
	char	   *data;
	size_t		len;
	size_t		size;
	bool		broken;
} Text;

void		text_add(Text *text, const char *string);
void		text_addn(Text *text, const char *bytes, size_t n);
void		text_addf(Text *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void		text_add_conninfo(Text *text, const char *keyword, const char *value);
void		text_cut(Text *text, size_t len);
void		text_free(Text *text);
const char *text_of(const Text *text);

/* ---- options.c: the connection string, resolved ---- */
typedef struct Host
{
	char	   *host;			/* NULL: not given */
	char	   *hostaddr;
	char	   *port;
} Host;

typedef enum Target
{
	TARGET_ANY, TARGET_READ_WRITE, TARGET_READ_ONLY, TARGET_PRIMARY, TARGET_STANDBY, TARGET_PREFER_STANDBY,
	TARGET_PREFER_READ = TARGET_PREFER_STANDBY	/* the old name */
} Target;

typedef struct Options
{
	char	  **keywords;		/* all but the ones below, in libpq's order */
	char	  **values;
	int			count;
	char	   *host;			/* as the user gave them, for PQconninfo; NULL: not given */
	char	   *hostaddr;
	char	   *port;
	char	   *target_session_attrs;
	char	   *load_balance_hosts;
	Host	   *hosts;
	int			nhosts;
	Target		target;
	bool		odd_target;		/* target_session_attrs is a value that only the real libpq can judge */
	bool		strict;			/* a plain connection in the clear would be refused: sslmode=require and the like */
	bool		strict_locally; /* also by a Unix socket, where there is no
								 * TLS: require_auth and the like */
	bool		random;			/* load_balance_hosts=random */
} Options;

/* Both give the real connection that failed on an error of the string, NULL when all is well or memory ran out (*oom). */
PGconn	   *options_parse(Options *o, const char *const *keywords, const char *const *values, int expand_dbname, bool *oom);
PGconn	   *options_parse_string(Options *o, const char *conninfo, bool *oom);
const char *options_get(const Options *o, const char *keyword);
void		options_conninfo(const Options *o, Text *out);
void		options_free(Options *o);
bool		host_is_tcp(const Host *h);
bool		host_is_loopback(const Host *h);

/* ---- watcher.c ---- */
typedef struct Watch Watch;

extern volatile unsigned fork_count;	/* forks between the start of the program and this process */

Watch	   *watch_start(int cm_socket, int sql_socket, const char **problem);
bool		watch_move(Watch *w, int sql_socket);
void		watch_adopt(Watch *w);
bool		watch_look(Watch *w);
bool		watch_glance(Watch *w, bool asked);
const char *watch_said(const Watch *w);
void		watch_drop_sql(Watch *w);
void		watch_end(Watch *w);

/* ---- news.c: what comes on a bound conmgr connection ---- */
bool		news_come(int cm_socket);
bool		news_read(int cm_socket, char *said, size_t size);

/* ---- cmlink.c: the connection to conmgr ---- */
typedef enum LinkStep
{
	LINK_READ, LINK_WRITE,		/* wait for the socket to be readable, writable */
	LINK_READY,					/* it is a conmgr, and idle */
	LINK_TARGET,				/* the answer has come */
	LINK_NO_TARGET,				/* conmgr has no such instance; link->error */
	LINK_STRANGER,				/* not a conmgr */
	LINK_FAILED					/* link->error */
} LinkStep;

typedef enum LinkState
{
	LS_CONNECTING, LS_SSL_ANSWER, LS_STARTUP, LS_IDLE, LS_SENDING, LS_ANSWER
} LinkState;

typedef struct CmTarget
{
	char	   *instance;
	char	   *host;
	char	   *hostaddr;
	char	   *port;
} CmTarget;

struct addrinfo;

typedef struct CmLink
{
	int			fd;
	PGconn	   *real;			/* owner of fd when the real libpq made the connection, or NULL */
	LinkState	state;
	struct addrinfo *addresses; /* of a connection that we make */
	struct addrinfo *next_address;
	Text		startup;
	Text		out;
	size_t		sent;
	char	   *in;
	size_t		in_len;
	size_t		in_size;
	bool		is_conmgr;
	bool		got_target;
	bool		got_error;
	bool		rejects;		/* the error is 57P03: conmgr shuts down */
	bool		trusted;		/* trust.c has looked at its user */
	int			fields;			/* of a row; 0: not described yet */
	int			columns[CM_COLUMNS];		/* where instance, host, hostaddr, port and
								 * attributes are in it */
	CmTarget	target;
	Text		error;			/* message of conmgr or of the system */
	char		peer[64];		/* its address, numeric */
} CmLink;

CmLink	   *link_open(const Host *h, const Options *o);
CmLink	   *link_adopt(PGconn *real_conn);
void		link_ask(CmLink *link, const char *attribute, const char *except);
LinkStep	link_step(CmLink *link);
LinkStep	link_receive(CmLink *link);	/* cmanswer.c */
void		link_close(CmLink *link, bool quietly);
const char *link_directory(const CmLink *link, const Host *h);
void		target_free(CmTarget *t);

/* ---- the handle ---- */
#define FRONT_MAGIC UINT64_C(0xC99A11E57EDB10C5)	/* no pointer: a real PGconn starts with one */

typedef enum Phase
{
	PH_DONE,					/* connected, or was: sql decides */
	PH_FAILED,					/* no connection was made; err says why */
	PH_PROBE,					/* stage one, in the clear and without secrets */
	PH_STAGE1,					/* stage one, by the real libpq */
	PH_CHECK,					/* a plain server: asking an old one whether it is what the user wants */
	PH_ASK,						/* waiting for conmgr's answer */
	PH_STAGE2					/* connecting to the instance */
} Phase;

/* ---- tried.c: an attempt of the real libpq ---- */
typedef struct Tried
{
	Host		given;			/* host, hostaddr and port of it */
	char		address[64];	/* numeric, as far as known */
	bool		closed;			/* the peer had closed without a word when libpq last looked */
	char		first;			/* byte that libpq was about to read */
	PostgresPollingStatusType polled;	/* what libpq said last */
} Tried;

typedef struct FrontEvent
{
	PGEventProc proc;
	PGEventProc thunk;
	char	   *name;
	void	   *pass_through;
} FrontEvent;

typedef struct Front
{
	uint64_t	magic;
	PGconn	   *sql;			/* real; never NULL */
	bool		special;		/* front_after has something to look at */
	const char *lacks;			/* function last called that the real libpq does not have; NULL: none */
	Phase		phase;
	unsigned	forks;			/* fork_count of the process that used it last */
	CmLink	   *link;
	Watch	   *watch;
	ino_t		watched_inode;	/* the SQL socket that the watch knows */
	Options		options;

	/* connecting */
	int			host;			/* index in options.hosts */
	int		   *order;			/* in which they are tried */
	int			pass;			/* prefer-standby: 0 standbys, 1 any */
	int			attempt;		/* counts the hosts tried, so that connect_timeout starts anew */
	int			restarts;		/* of this host, because the instance was lost meanwhile */
	struct addrinfo *addresses; /* of this host, once one has taken too long */
	struct addrinfo *address;	/* that is tried now; NULL: libpq looks them up */
	bool		skip_probe;
	bool		bogus_host;		/* sql's host list has an entry behind the real one: see connect.c */
	bool		blank;			/* sql is none, only something to be asked (tried_show) */
	bool		old_protocol;	/* this host is asked with protocol 3.0, whatever the user wants ... */
	size_t		before_that;	/* ... and err was so long before it refused that */
	bool		invalid;		/* libpq did not come to try anything (PQping) */
	bool		resetting;
	Tried		tried;
	Text		except;			/* instances that refused */
	int			refusals;
	Text		err;			/* what went wrong so far */
	bool		reached;		/* sql's server has taken the startup packet (PQping) */
	bool		rejected;		/* this host is a conmgr that shuts down (PQping) */

	/* after a loss */
	bool		ended;
	unsigned	unlooked;		/* bytes given to PQputCopyData since the last look */
	Text		loss;			/* what was lost and why; empty: nothing that we know of */
	Text		shown;			/* last PQerrorMessage made of both */

	/* set by the application, re-applied to each real connection */
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
	bool		asked;			/* the application has called PQcmSocket(): it may know of a loss before the watcher does */
	FrontEvent *events;
	int			nevents;
	bool		events_quiet;	/* events of real connections that the application does not see come and go */
} Front;

static inline Front *
front_of(const PGconn *conn)
{
	Front	   *f = (Front *) conn;

	return f && f->magic == FRONT_MAGIC ? f : NULL;
}

static inline const PGconn *
sql_of(const PGconn *conn)
{
	Front	   *f = front_of(conn);

	return f ? f->sql : conn;
}

/* ---- handle.c ---- */
Front	   *front_new(void);
PGconn	   *front_blank(void);
void		front_set_sql(Front *f, PGconn *real_conn);
PGconn	   *front_take_sql(Front *f);
void		front_leave_conmgr(Front *f);
void		front_disconnect(Front *f);
void		real_finish(PGconn *real_conn, bool quietly);
bool		front_inherited(const Front *f);

/* ---- older.c ---- */
void		front_lacks(const PGconn *conn, const char *function);
const char *lacks_message(const char *function);

/* ---- connect.c ---- */
extern __thread Front *connecting_front;	/* whose PQconnectPoll runs in this thread */
PostgresPollingStatusType connect_start(Front *f);
PostgresPollingStatusType connect_poll(Front *f);
PostgresPollingStatusType connect_timed_out(Front *f);
void		connect_give_up(Front *f);
bool		front_connecting(const Front *f);

/* ---- target.c ---- */
typedef enum Suits
{
	SUITS, SUITS_NOT, SUITS_ASK
} Suits;

Suits		target_suits(Front *f, Text *why);
bool		target_ask(Front *f);
PostgresPollingStatusType target_poll(Front *f, Suits *answer, Text *why);
const char *target_name(const Front *f);
void		server_identity(PGconn *real_conn, Text *out);

/* ---- events.c ---- */
bool		events_carry(Front *f, PGconn *to);
void		events_fire_reset(Front *f);
void		events_free(Front *f);

/* ---- loss.c ---- */
void		front_adopt(Front *f);
void		front_glance(Front *f);
void		front_look(Front *f);
PGresult   *front_amend(Front *f, PGresult *r);

static inline void
front_before(Front *f)
{
	f->lacks = NULL;
	if (__builtin_expect(f->forks != fork_count, 0))
		front_adopt(f);
}

/* Before a call that sends: if conmgr has told of a loss, the SQL socket is shut down now, whether the watcher has come to it or not. */
static inline void
front_before_call(Front *f)
{
	if (__builtin_expect(f->special, 0))
		front_glance(f);
}

static inline void
front_after(Front *f)
{
	if (__builtin_expect(f->special, 0))
		front_look(f);
}

static inline PGresult *
front_after_result(Front *f, PGresult *r)
{
	if (__builtin_expect(f->special, 0))
	{
		front_look(f);
		if (f->loss.len)
			return front_amend(f, r);
	}
	return r;
}

#endif							/* FRONT_H */
