/*
 * api.c: the functions that connect: PQconnect*, PQsetdbLogin, PQreset*,
 * PQping*. Run by the application's threads; the blocking ones block in
 * poll(2) until the connection is made, or connect_timeout is over for each
 * host.
 */
#include "handle.h"

#include <errno.h>
#include <poll.h>

/*
 * Set while the real libpq's PQping connects by its exported functions, which
 * come back here.
 */
static __thread bool pinging;

/*
 * connect_timeout in milliseconds, 0 for none; -1 and a message if it is no
 * number.
 */
static int64_t
timeout_ms(Front *f)
{
	int64_t		timeout = options_timeout(&f->c.options);

	if (timeout < 0)
	{
		text_add(&f->c.err, real.PQerrorMessage(f->c.sql));
		text_addf(&f->c.err, "invalid integer value \"%s\" for connection "
				  "option \"connect_timeout\"\n",
				  options_get(&f->c.options, "connect_timeout"));
	}
	return timeout;
}

static bool
complete(Front *f, PostgresPollingStatusType s)
{
	int64_t		limit = s == PGRES_POLLING_FAILED ? 0 : timeout_ms(f);
	int64_t		deadline = limit > 0 ? monotonic_ms() + limit : 0;
	int			attempt = f->c.attempt;

	if (limit < 0)
	{
		connect_give_up(&f->c);
		return false;
	}
	while (s == PGRES_POLLING_READING || s == PGRES_POLLING_WRITING)
	{
		struct pollfd p = {
			.fd = PQsocket((PGconn *) f),
			.events = s == PGRES_POLLING_READING ? POLLIN : POLLOUT
		};
		int			wait = -1;
		int			n;

		if (f->c.attempt != attempt)
		{
			attempt = f->c.attempt;
			deadline = limit > 0 ? monotonic_ms() + limit : 0;
		}
		if (deadline)
		{
			int64_t		left = deadline - monotonic_ms();

			wait = left > 0 ? (int) left : 0;
		}
		n = poll(&p, 1, wait);
		if (n < 0 && errno == EINTR)
			continue;
		s = n == 0 ? connect_timed_out(&f->c) : connect_poll(&f->c);
	}
	return s == PGRES_POLLING_OK;
}

/*
 * A handle for a string that could not be parsed, or for a front without a
 * libpq, has the message; NULL without memory.
 */
static Front *
begin(Front *f, PGconn *failed, bool oom)
{
	if (!f || oom)
	{
		if (f)
			PQfinish((PGconn *) f);
		return NULL;
	}
	if (!connection_begin(&f->c, failed))
	{
		PQfinish((PGconn *) f);
		return NULL;
	}
	if (!failed)
		connect_start(&f->c);
	return f;
}

static Front *
unusable(void)
{
	Front	   *f = front_new();

	if (f)
		text_addf(&f->c.err, "%s\n", real_problem);
	return f;
}

static Front *
start_string(const char *conninfo)
{
	Front	   *f = real_problem ? NULL : front_new();
	PGconn	   *failed;
	bool		oom = false;

	if (real_problem)
		return unusable();
	failed = f ? options_parse_string(&f->c.options, conninfo, &oom) : NULL;
	return begin(f, failed, oom);
}

static Front *
start_params(const char *const *keywords,
			 const char *const *values, int expand_dbname)
{
	Front	   *f = real_problem ? NULL : front_new();
	PGconn	   *failed;
	bool		oom = false;

	if (real_problem)
		return unusable();
	failed = f ? options_parse(&f->c.options, keywords, values, expand_dbname,
							   &oom) : NULL;
	return begin(f, failed, oom);
}

static PGconn *
wait_for(Front *f)
{
	if (f && is_connecting(&f->c))
		complete(f, PGRES_POLLING_WRITING);
	return (PGconn *) f;
}

EXPORT PGconn *
PQconnectStart(const char *conninfo)
{
	return pinging ? real.PQconnectStart(conninfo) :
		(PGconn *) start_string(conninfo);
}

EXPORT PGconn *
PQconnectStartParams(const char *const *keywords,
					 const char *const *values, int expand_dbname)
{
	return pinging ?
		real.PQconnectStartParams(keywords, values, expand_dbname) :
		(PGconn *) start_params(keywords, values, expand_dbname);
}

EXPORT PostgresPollingStatusType
PQconnectPoll(PGconn *conn)
{
	Front	   *f = front_of(conn);

	return f ? connect_poll(&f->c) : real.PQconnectPoll(conn);
}

EXPORT PGconn *
PQconnectdb(const char *conninfo)
{
	return wait_for(start_string(conninfo));
}

EXPORT PGconn *
PQconnectdbParams(const char *const *keywords,
				  const char *const *values, int expand_dbname)
{
	return wait_for(start_params(keywords, values, expand_dbname));
}

EXPORT PGconn *
PQsetdbLogin(const char *pghost, const char *pgport, const char *pgoptions,
			 const char *pgtty, const char *dbName, const char *login,
			 const char *pwd)
{
	const char *keywords[] = {
		"dbname", "host", "port", "options", "user", "password", NULL
	};
	const char *values[] = {
		dbName, pghost, pgport, pgoptions, login, pwd, NULL
	};

	(void) pgtty;				/* libpq ignores it too */
	return wait_for(start_params(keywords, values, 1));
}

/* ---- again ---- */

static bool
restart(Front *f)
{
	if (f->c.options.nhosts == 0)
		return false;			/* its string was wrong, and still is */
	front_disconnect(f);
	f->resetting = true;
	return connect_start(&f->c) != PGRES_POLLING_FAILED;
}

EXPORT void
PQreset(PGconn *conn)
{
	Front	   *f = front_of(conn);

	if (!f)
		real.PQreset(conn);
	else if (restart(f) && complete(f, PGRES_POLLING_WRITING))
		events_fire_reset(f);
}

EXPORT int
PQresetStart(PGconn *conn)
{
	Front	   *f = front_of(conn);

	return f ? restart(f) : real.PQresetStart(conn);
}

EXPORT PostgresPollingStatusType
PQresetPoll(PGconn *conn)
{
	Front	   *f = front_of(conn);
	PostgresPollingStatusType s;

	if (!f)
		return real.PQresetPoll(conn);
	s = connect_poll(&f->c);
	if (s == PGRES_POLLING_OK && f->resetting)
	{
		f->resetting = false;
		events_fire_reset(f);
	}
	return s;
}

/* ---- ping ---- */

/*
 * The real libpq's judgement of the last server that answered, but not with a
 * session: it sees the SQLSTATE.
 */
static PGPing
real_ping(const Front *f)
{
	Text		conninfo = {0};
	PGPing		r = PQPING_NO_RESPONSE;

	tried_conninfo(&f->c, &conninfo);
	if (!conninfo.broken)
	{
		pinging = true;
		r = real.PQping(conninfo.data);
		pinging = false;
	}
	text_free(&conninfo);
	return r;
}

static PGPing
ping(Front *f)
{
	PGPing		r = PQPING_NO_RESPONSE;

	if (f)
		f->c.impatient = true;	/* it asks what is now */
	wait_for(f);
	if (!f || f->c.options.nhosts == 0 || f->c.invalid)
		r = PQPING_NO_ATTEMPT;
	else if (f->c.phase == PH_DONE ||
			 real.PQconnectionNeedsPassword(f->c.sql) ||
			 real.PQconnectionUsedPassword(f->c.sql))
		r = PQPING_OK;
	else if (f->c.reached)
		r = real_ping(f);
	else if (f->c.rejected)
		r = PQPING_REJECT;		/* as for a server in that state */
	PQfinish((PGconn *) f);
	return r;
}

EXPORT PGPing
PQping(const char *conninfo)
{
	return ping(start_string(conninfo));
}

EXPORT PGPing
PQpingParams(const char *const *keywords,
			 const char *const *values, int expand_dbname)
{
	return ping(start_params(keywords, values, expand_dbname));
}
