/*
 * handle.c: the application's handle: making and ending it, what an
 * application may set on it before the connection is complete, and what it may
 * ask. Run by the application's threads; PQfinish and PQtrace block as libpq's
 * do.
 */
#include "handle.h"

Front *
front_new(void)
{
	Front	   *f = calloc(1, sizeof *f);

	if (f)
	{
		f->magic = FRONT_MAGIC;
		connection_init(&f->c, events_carry);
	}
	return f;
}

/* Back to a handle that is not connected, with all its settings. */
void
front_disconnect(Front *f)
{
	connection_disconnect(&f->c);
	f->ended = false;
	text_free(&f->loss);
}

EXPORT void
PQfinish(PGconn *conn)
{
	Front	   *f = front_of(conn);

	if (!f)
	{
		real.PQfinish(conn);
		return;
	}
	connection_end(&f->c);		/* tells the event procedures */
	f->magic = 0;
	events_free(f);
	text_free(&f->loss);
	text_free(&f->shown);
	free(f);
}

/* ---- what may be set ---- */

EXPORT PQnoticeReceiver
PQsetNoticeReceiver(PGconn *conn, PQnoticeReceiver proc, void *arg)
{
	Front	   *f = front_of(conn);

	if (f && proc)
	{
		f->c.settings.receiver = proc;
		f->c.settings.receiver_arg = arg;
		f->c.settings.receiver_set = true;
	}
	return real.PQsetNoticeReceiver(f ? f->c.sql : conn, proc, arg);
}

EXPORT PQnoticeProcessor
PQsetNoticeProcessor(PGconn *conn, PQnoticeProcessor proc, void *arg)
{
	Front	   *f = front_of(conn);

	if (f && proc)
	{
		f->c.settings.processor = proc;
		f->c.settings.processor_arg = arg;
		f->c.settings.processor_set = true;
	}
	return real.PQsetNoticeProcessor(f ? f->c.sql : conn, proc, arg);
}

EXPORT PGVerbosity
PQsetErrorVerbosity(PGconn *conn, PGVerbosity verbosity)
{
	Front	   *f = front_of(conn);

	if (f)
	{
		PGVerbosity before = f->c.settings.verbosity;

		f->c.settings.verbosity = verbosity;
		f->c.settings.verbosity_set = true;
		if (f->c.phase == PH_STAGE2)
			return before;		/* another one is set for now: stage2.c */
	}
	return real.PQsetErrorVerbosity(f ? f->c.sql : conn, verbosity);
}

EXPORT PGContextVisibility
PQsetErrorContextVisibility(PGconn *conn, PGContextVisibility show_context)
{
	Front	   *f = front_of(conn);

	if (f)
	{
		f->c.settings.context = show_context;
		f->c.settings.context_set = true;
	}
	return real.PQsetErrorContextVisibility(f ? f->c.sql : conn, show_context);
}

EXPORT void
PQtrace(PGconn *conn, FILE *debug_port)
{
	Front	   *f = front_of(conn);

	if (f)
	{
		f->c.settings.trace = debug_port;
		f->c.settings.trace_flags = 0;
	}
	real.PQtrace(f ? f->c.sql : conn, debug_port);
}

EXPORT void
PQuntrace(PGconn *conn)
{
	Front	   *f = front_of(conn);

	if (f)
		f->c.settings.trace = NULL;
	real.PQuntrace(f ? f->c.sql : conn);
}

EXPORT void
PQsetTraceFlags(PGconn *conn, int flags)
{
	Front	   *f = front_of(conn);

	if (f && f->c.settings.trace)
		f->c.settings.trace_flags = flags;
	real.PQsetTraceFlags(f ? f->c.sql : conn, flags);
}

EXPORT int
PQsetnonblocking(PGconn *conn, int arg)
{
	Front	   *f = front_of(conn);
	int			r;

	if (!f)
		return real.PQsetnonblocking(conn, arg);
	front_before(f);
	if (is_connecting(&f->c))
	{
		f->c.settings.nonblocking = arg != 0;
		if (f->c.phase == PH_PROBE || f->c.phase == PH_ASK)
			return 0;			/* the real connection is yet to come */
	}
	r = real.PQsetnonblocking(f->c.sql, arg);
	front_after(f);
	return r;
}

/* ---- what may be asked ---- */

EXPORT int
PQcmSocket(const PGconn *conn)
{
	Front	   *f = front_of(conn);

	return f && f->c.watch ? watch_signal(f->c.watch) : -1;
}

EXPORT int
PQcmDraining(const PGconn *conn)
{
	Front	   *f = front_of(conn);

	if (!f || !f->c.watch)
		return 0;
	if (f->c.forks != fork_count)
		front_adopt(f);
	return watch_draining(f->c.watch);
}

EXPORT int
PQsocket(const PGconn *conn)
{
	Front	   *f = front_of(conn);

	if (f && (f->c.phase == PH_PROBE || f->c.phase == PH_ASK))
		return link_socket(f->c.link);
	return real.PQsocket(sql_of(conn));
}

EXPORT ConnStatusType
PQstatus(const PGconn *conn)
{
	Front	   *f = front_of(conn);
	ConnStatusType status;

	if (!f)
		return real.PQstatus(conn);
	switch (f->c.phase)
	{
		case PH_FAILED:
			return CONNECTION_BAD;
		case PH_PROBE:
			return link_is_connecting(f->c.link) ? CONNECTION_STARTED :
				link_is_asked(f->c.link) ? CONNECTION_AWAITING_CMRESPONSE :
				CONNECTION_AWAITING_RESPONSE;
		case PH_CHECK:
			return CONNECTION_CHECK_TARGET;
		case PH_ASK:
			return CONNECTION_AWAITING_CMRESPONSE;
		case PH_STAGE1:
		case PH_STAGE2:
			status = real.PQstatus(f->c.sql);
			return status == CONNECTION_OK || status == CONNECTION_BAD ?
				CONNECTION_AUTH_OK : status;
		case PH_DONE:
			break;
	}
	return real.PQstatus(f->c.sql);
}

/* As long as the real connection is not begun, what the user has given. */
static const Host *
shown_host(const Front *f)
{
	if (f && (f->c.phase == PH_PROBE || f->c.phase == PH_ASK))
		return current_host(&f->c);
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
		return (char *) link_peer(f->c.link);
	if (f && f->c.blank)
		return (char *) tried_address(&f->c);
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

/* The user's own, without the label of the session. */
EXPORT char *
PQoptions(const PGconn *conn)
{
	Front	   *f = front_of(conn);
	const char *given = f && f->c.options.nhosts ?
		options_get(&f->c.options, "options") : NULL;

	return given ? (char *) given : real.PQoptions(sql_of(conn));
}

/*
 * The user's own parameters: the list of hosts, not the instance that it led
 * to.
 */
EXPORT PQconninfoOption *
PQconninfo(PGconn *conn)
{
	Front	   *f = front_of(conn);
	PQconninfoOption *list = real.PQconninfo(f ? f->c.sql : conn);
	const Options *given;

	if (!f || !f->c.options.nhosts)
		return list;
	given = &f->c.options;
	for (PQconninfoOption *o = list; o && o->keyword; o++)
	{
		const char *value = o->val;

		if (!strcmp(o->keyword, "host"))
			value = given->host;
		else if (!strcmp(o->keyword, "hostaddr"))
			value = given->hostaddr;
		else if (!strcmp(o->keyword, "port"))
			value = given->port;
		else if (!strcmp(o->keyword, "target_session_attrs"))
			value = given->target_session_attrs;
		else if (!strcmp(o->keyword, "load_balance_hosts"))
			value = given->load_balance_hosts;
		else if (!strcmp(o->keyword, "options"))
			value = options_get(given, "options");
		else if (f->c.blank && (f->c.phase != PH_FAILED ||
								!strcmp(o->keyword, "sslmode")))
			/* a blank one has some of its own */
			value = options_get(given, o->keyword);
		if (value == o->val)
			continue;
		free(o->val);
		o->val = value ? strdup(value) : NULL;
	}
	return list;
}
