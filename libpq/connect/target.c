/*
 * target.c: target_session_attrs. For a conmgr, what is asked of it; for a
 * plain server, libpq's own check, which the front makes in libpq's place
 * because it must not be made of a conmgr. Run by the application's thread
 * that connects; never blocks.
 */
#include "steps.h"

#include <string.h>

/*
 * The attribute that conmgr is asked for. In a list, prefer-standby first
 * looks for a standby everywhere, as libpq does.
 */
const char *
target_name(const Connection *c)
{
	switch (c->options.target)
	{
		case TARGET_READ_WRITE:
			return CM_READ_WRITE;
		case TARGET_READ_ONLY:
			return CM_READ_ONLY;
		case TARGET_PRIMARY:
			return CM_PRIMARY;
		case TARGET_STANDBY:
			return CM_STANDBY;
		case TARGET_PREFER_STANDBY:
			return c->options.nhosts > 1 && c->pass == 0 ? CM_STANDBY :
				CM_PREFER_STANDBY;
		case TARGET_ANY:
			break;
	}
	return CM_ANY;
}

/* The beginning of libpq's own messages. */
void
server_identity(PGconn *real_conn, Text *out)
{
	const char *host = real.PQhost(real_conn);
	const char *hostaddr = real.PQhostaddr(real_conn);
	const char *port = real.PQport(real_conn);

	host = host ? host : "";
	if (*host == '/' || *host == '@')
		text_addf(out, "connection to server on socket "
				  "\"%s/.s.PGSQL.%s\" failed: ", host, port);
	else if (hostaddr && *hostaddr && strcmp(host, hostaddr) != 0)
		text_addf(out, "connection to server at "
				  "\"%s\" (%s), port %s failed: ", host, hostaddr, port);
	else
		text_addf(out, "connection to server at "
				  "\"%s\", port %s failed: ", host, port);
}

static Suits
judge(Connection *c, bool read_only, bool standby, Text *why)
{
	const char *problem = NULL;

	switch (c->options.target)
	{
		case TARGET_READ_WRITE:
			problem = read_only ? "session is read-only" : NULL;
			break;
		case TARGET_READ_ONLY:
			problem = read_only ? NULL : "session is not read-only";
			break;
		case TARGET_PRIMARY:
			problem = standby ? "server is in hot standby mode" : NULL;
			break;
		case TARGET_STANDBY:
			problem = standby ? NULL : "server is not in hot standby mode";
			break;
		case TARGET_PREFER_STANDBY:
			problem = standby || c->pass > 0 ? NULL :
				"server is not in hot standby mode";
			break;
		case TARGET_ANY:
			break;
	}
	if (!problem)
		return SUITS;
	server_identity(c->sql, why);
	text_addf(why, "%s\n", problem);
	return SUITS_NOT;
}

static bool
session_property(const Connection *c)
{
	return c->options.target == TARGET_READ_WRITE ||
		c->options.target == TARGET_READ_ONLY;
}

/*
 * A server from version 14 on has said all that is needed; an older one must
 * be asked.
 */
Suits
target_suits(Connection *c, Text *why)
{
	const char *standby = real.PQparameterStatus(c->sql, "in_hot_standby");
	const char *read_only =
		real.PQparameterStatus(c->sql, "default_transaction_read_only");

	if (c->options.target == TARGET_ANY ||
		(c->options.target == TARGET_PREFER_STANDBY && c->pass > 0))
		return SUITS;
	if (session_property(c) ? !standby || !read_only : !standby)
		return SUITS_ASK;
	return judge(c, read_only && (!strcmp(read_only, "on") ||
								  !strcmp(standby, "on")),
				 !strcmp(standby, "on"), why);
}

bool
target_ask(Connection *c)
{
	return real.PQsendQuery(c->sql, session_property(c) ?
							"SHOW transaction_read_only" :
							"SELECT pg_catalog.pg_is_in_recovery()");
}

/*
 * PGRES_POLLING_OK: *answer holds. PGRES_POLLING_FAILED: the server did not
 * answer; *why says so.
 */
PostgresPollingStatusType
target_poll(Connection *c, Suits *answer, Text *why)
{
	PGresult   *r;
	bool		known = false;
	bool		on = false;

	if (!real.PQconsumeInput(c->sql))
	{
		text_add(why, real.PQerrorMessage(c->sql));
		return PGRES_POLLING_FAILED;
	}
	if (real.PQisBusy(c->sql))
		return PGRES_POLLING_READING;
	while ((r = real.PQgetResult(c->sql)))
	{
		if (real.PQresultStatus(r) == PGRES_TUPLES_OK &&
			real.PQntuples(r) == 1)
		{
			const char *value = real.PQgetvalue(r, 0, 0);

			known = true;
			on = !strcmp(value, "on") || !strcmp(value, "t");
		}
		real.PQclear(r);
	}
	if (!known)
	{
		server_identity(c->sql, why);
		text_add(why, real.PQerrorMessage(c->sql));
		*answer = SUITS_NOT;
		return PGRES_POLLING_OK;
	}
	*answer = judge(c, on, on, why);
	return PGRES_POLLING_OK;
}
