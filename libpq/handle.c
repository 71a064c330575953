/*
 * handle.c: the application's handle: making and ending it, what an application may set on it before the connection is complete, and what it
 * may ask. Run by the application's threads; PQfinish and PQtrace block as libpq's do.
 */
#include "front.h"
#include "steps.h"

#include <sys/eventfd.h>
#include <unistd.h>
#include <fcntl.h>

Front *
front_new(void)
{
	Front	   *f = calloc(1, sizeof *f);

	if (f)
	{
		f->magic = FRONT_MAGIC;
		f->phase = PH_FAILED;
		f->special = true;
		f->forks = fork_count;
	}
	return f;
}

/* A real connection that is none: what a handle has as long as it has nothing better. A user is named so that none is looked up. */
PGconn *
front_blank(void)
{
	return real.PQconnectStart("host='0,0,0' hostaddr='0,0' user='nobody'");
}

/* The handle was made or last used by another process than this one: the parent. */
bool
front_inherited(const Front *f)
{
	return f->forks != fork_count;
}

/*
 * By way of conmgr, a child that ends what it has inherited leaves its
 * parent's session alone. Without one, the session ends, as libpq has it.
 * To be asked before the link ends.
 */
static bool
ends_quietly(const Front *f)
{
	return front_inherited(f) && f->link;
}

/*
 * Quietly: a child ends what is its parent's. libpq would tell the server that the session is over; with another file in the
 * place of the socket it tells nobody.
 */
void
real_finish(PGconn *real_conn, bool quietly)
{
	if (real_conn && quietly && real.PQsocket(real_conn) >= 0)
	{
		int			nothing = eventfd(0, EFD_CLOEXEC);

		if (nothing >= 0)
		{
			dup3(nothing, real.PQsocket(real_conn), O_CLOEXEC);
			close(nothing);
		}
	}
	if (real_conn)
		real.PQfinish(real_conn);
}

/* Takes over what the application has set. */
static void
carry(Front *f, PGconn *to)
{
	if (f->receiver_set)
		real.PQsetNoticeReceiver(to, f->receiver, f->receiver_arg);
	if (f->processor_set)
		real.PQsetNoticeProcessor(to, f->processor, f->processor_arg);
	if (f->verbosity_set)
		real.PQsetErrorVerbosity(to, f->verbosity);
	if (f->context_set)
		real.PQsetErrorContextVisibility(to, f->context);
	if (f->trace)
	{
		real.PQtrace(to, f->trace);
		real.PQsetTraceFlags(to, f->trace_flags);
	}
	if (f->nonblocking)
		real.PQsetnonblocking(to, 1);
	if (!events_carry(f, to))
		text_add(&f->err, "out of memory\n");
}

static void
replace_sql(Front *f, PGconn *real_conn, bool quietly)
{
	PGconn	   *old = f->sql;

	if (!real_conn)
		return;
	carry(f, real_conn);
	f->sql = real_conn;
	f->events_quiet = true;
	real_finish(old, quietly);
	f->events_quiet = false;
}

/* Replaces the real connection; the one before ends. A NULL stands for one that memory did not suffice for. */
void
front_set_sql(Front *f, PGconn *real_conn)
{
	replace_sql(f, real_conn, ends_quietly(f));
}

void
front_leave_conmgr(Front *f)
{
	bool		quietly = front_inherited(f);

	watch_end(f->watch);
	f->watch = NULL;
	f->events_quiet = true;
	link_close(f->link, quietly);
	f->events_quiet = false;
	f->link = NULL;
}

/* Takes the real connection out of the handle, for another use. NULL: out of memory, and it stays where it is. */
PGconn *
front_take_sql(Front *f)
{
	PGconn	   *blank = front_blank();
	PGconn	   *old = f->sql;

	if (!blank)
		return NULL;
	carry(f, blank);
	f->sql = blank;
	f->blank = true;
	if (f->trace)
		real.PQuntrace(old);
	return old;
}

/* Back to a handle that is not connected, with all its settings. */
void
front_disconnect(Front *f)
{
	bool		quietly = ends_quietly(f);

	if (front_connecting(f))
		connect_give_up(f);
	front_leave_conmgr(f);
	f->nonblocking = false;		/* as libpq does */
	replace_sql(f, front_blank(), quietly);
	f->blank = true;
	tried_free(f);
	f->forks = fork_count;
	f->phase = PH_FAILED;
	f->special = true;
	f->ended = false;
	text_free(&f->loss);
	text_free(&f->err);
}

EXPORT void
PQfinish(PGconn *conn)
{
	Front	   *f = front_of(conn);
	bool		quietly;

	if (!f)
	{
		real.PQfinish(conn);
		return;
	}
	quietly = ends_quietly(f);
	if (front_connecting(f))
		connect_give_up(f);
	front_leave_conmgr(f);
	real_finish(f->sql, quietly);	/* tells the event procedures */
	f->magic = 0;
	events_free(f);
	options_free(&f->options);
	text_free(&f->err);
	text_free(&f->except);
	text_free(&f->loss);
	text_free(&f->shown);
	tried_free(f);
	free(f->order);
	free(f);
}

/* ---- what may be set ---- */

EXPORT PQnoticeReceiver
PQsetNoticeReceiver(PGconn *conn, PQnoticeReceiver proc, void *arg)
{
	Front	   *f = front_of(conn);

	if (f && proc)
	{
		f->receiver = proc;
		f->receiver_arg = arg;
		f->receiver_set = true;
	}
	return real.PQsetNoticeReceiver(f ? f->sql : conn, proc, arg);
}

EXPORT PQnoticeProcessor
PQsetNoticeProcessor(PGconn *conn, PQnoticeProcessor proc, void *arg)
{
	Front	   *f = front_of(conn);

	if (f && proc)
	{
		f->processor = proc;
		f->processor_arg = arg;
		f->processor_set = true;
	}
	return real.PQsetNoticeProcessor(f ? f->sql : conn, proc, arg);
}

EXPORT PGVerbosity
PQsetErrorVerbosity(PGconn *conn, PGVerbosity verbosity)
{
	Front	   *f = front_of(conn);

	if (f)
	{
		PGVerbosity before = f->verbosity_set ? f->verbosity : PQERRORS_DEFAULT;

		f->verbosity = verbosity;
		f->verbosity_set = true;
		if (f->phase == PH_STAGE2)
			return before;		/* verbose_errors has set another one for now */
	}
	return real.PQsetErrorVerbosity(f ? f->sql : conn, verbosity);
}

EXPORT PGContextVisibility
PQsetErrorContextVisibility(PGconn *conn, PGContextVisibility show_context)
{
	Front	   *f = front_of(conn);

	if (f)
	{
		f->context = show_context;
		f->context_set = true;
	}
	return real.PQsetErrorContextVisibility(f ? f->sql : conn, show_context);
}

EXPORT void
PQtrace(PGconn *conn, FILE *debug_port)
{
	Front	   *f = front_of(conn);

	if (f)
	{
		f->trace = debug_port;
		f->trace_flags = 0;
	}
	real.PQtrace(f ? f->sql : conn, debug_port);
}

EXPORT void
PQuntrace(PGconn *conn)
{
	Front	   *f = front_of(conn);

	if (f)
		f->trace = NULL;
	real.PQuntrace(f ? f->sql : conn);
}

EXPORT void
PQsetTraceFlags(PGconn *conn, int flags)
{
	Front	   *f = front_of(conn);

	if (f && f->trace)
		f->trace_flags = flags;
	real.PQsetTraceFlags(f ? f->sql : conn, flags);
}

EXPORT int
PQsetnonblocking(PGconn *conn, int arg)
{
	Front	   *f = front_of(conn);
	int			r;

	if (!f)
		return real.PQsetnonblocking(conn, arg);
	front_before(f);
	if (front_connecting(f))
	{
		f->nonblocking = arg != 0;
		if (f->phase == PH_PROBE || f->phase == PH_ASK)
			return 0;			/* the real connection is yet to come */
	}
	r = real.PQsetnonblocking(f->sql, arg);
	front_after(f);
	return r;
}

/* ---- what may be asked ---- */

EXPORT int
PQcmSocket(const PGconn *conn)
{
	Front	   *f = front_of(conn);

	if (!f || !f->link)
		return -1;
	f->asked = true;
	return f->link->fd;
}

EXPORT int
PQsocket(const PGconn *conn)
{
	Front	   *f = front_of(conn);

	if (f && (f->phase == PH_PROBE || f->phase == PH_ASK))
		return f->link->fd;
	return real.PQsocket(sql_of(conn));
}

EXPORT ConnStatusType
PQstatus(const PGconn *conn)
{
	Front	   *f = front_of(conn);
	ConnStatusType status;

	if (!f)
		return real.PQstatus(conn);
	switch (f->phase)
	{
		case PH_FAILED:
			return CONNECTION_BAD;
		case PH_PROBE:
			return f->link->state == LS_CONNECTING ? CONNECTION_STARTED : CONNECTION_AWAITING_RESPONSE;
		case PH_CHECK:
			return CONNECTION_CHECK_TARGET;
		case PH_ASK:
			return CONNECTION_AWAITING_CMRESPONSE;
		case PH_STAGE1:
		case PH_STAGE2:
			status = real.PQstatus(f->sql);
			return status == CONNECTION_OK || status == CONNECTION_BAD ? CONNECTION_AUTH_OK : status;
		case PH_DONE:
			break;
	}
	return real.PQstatus(f->sql);
}

/* As long as the real connection is not begun, what the user has given. */
static const Host *
shown_host(const Front *f)
{
	if (f && (f->phase == PH_PROBE || f->phase == PH_ASK))
		return current_host(f);
	return NULL;
}

EXPORT char *
PQhost(const PGconn *conn)
{
	const Host *h = shown_host(front_of(conn));

	if (h)
		return h->host ? h->host : h->hostaddr ? h->hostaddr : "";
	return real.PQhost(sql_of(conn));
}

EXPORT char *
PQhostaddr(const PGconn *conn)
{
	Front	   *f = front_of(conn);

	if (shown_host(f))
		return f->link->peer;
	if (f && f->blank)
		return (char *) tried_address(f);
	return real.PQhostaddr(sql_of(conn));
}

EXPORT char *
PQport(const PGconn *conn)
{
	const Host *h = shown_host(front_of(conn));

	if (h)
		return h->port ? h->port : "";
	return real.PQport(sql_of(conn));
}

/* The user's own parameters: the list of hosts, not the instance that it led to. */
EXPORT PQconninfoOption *
PQconninfo(PGconn *conn)
{
	Front	   *f = front_of(conn);
	PQconninfoOption *list = real.PQconninfo(f ? f->sql : conn);

	for (PQconninfoOption *o = list; f && f->options.nhosts && o && o->keyword; o++)
	{
		const char *value;

		if (!strcmp(o->keyword, "host"))
			value = f->options.host;
		else if (!strcmp(o->keyword, "hostaddr"))
			value = f->options.hostaddr;
		else if (!strcmp(o->keyword, "port"))
			value = f->options.port;
		else if (!strcmp(o->keyword, "target_session_attrs"))
			value = f->options.target_session_attrs;
		else if (!strcmp(o->keyword, "load_balance_hosts"))
			value = f->options.load_balance_hosts;
		else
			value = f->blank && (f->phase != PH_FAILED || !strcmp(o->keyword, "sslmode")) ?
				options_get(&f->options, o->keyword) : o->val;	/* a blank one has some of its own */
		if (value == o->val)
			continue;
		free(o->val);
		o->val = value ? strdup(value) : NULL;
	}
	return list;
}
