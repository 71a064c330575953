/*
 * waits.c: waits in a libpq call until the connection is lost, and tells what comes of it. Usage: waits how conninfo
 * It says "ready" before it waits; then a line for each step.
 */
#include "check.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

static void
tell(PGconn *c, const char *call, PGresult *r)
{
	const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
	char	   *text = strdup(r ? PQresultErrorMessage(r) : PQerrorMessage(c));

	if (r)
	{
		char	   *verbose = PQresultVerboseErrorMessage(r, PQERRORS_VERBOSE, PQSHOW_CONTEXT_ALWAYS);

		/* what was lost is told in each form; a message of the server's own has more to show */
		CHECK(state || !strcmp(verbose, text));
		PQfreemem(verbose);
	}
	for (char *p = text; *p; p++)
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	printf("%s: result %s sqlstate %s status %s message %s\n", call, r ? PQresStatus(PQresultStatus(r)) : "none",
		   state ? state : "none", PQstatus(c) == CONNECTION_OK ? "ok" : "bad", text);
	fflush(stdout);
	free(text);
	PQclear(r);
}

static void
poll_one(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	CHECK(fd >= 0);
	say("ready");
	CHECK(poll(&p, 1, 60000) == 1);
}

/* What an event loop does when it is woken: consume, and then see. */
static void
collect(PGconn *c)
{
	PGresult   *r;
	int			ok = PQconsumeInput(c);

	printf("PQconsumeInput: %d\n", ok);
	CHECK(!PQisBusy(c));		/* it would go on waiting, with nothing left to wake it */
	r = PQgetResult(c);
	tell(c, "PQgetResult", r);
	CHECK(PQgetResult(c) == NULL);
}

/* COPY into a table in which each row takes a minute. */
static void
slow_copy(PGconn *c)
{
	PGresult   *r;

	PQclear(PQexec(c, "create temp table t(a text)"));
	PQclear(PQexec(c, "create function pg_temp.slow() returns trigger language plpgsql as $$ begin perform pg_sleep(60); "
				   "return new; end $$"));
	PQclear(PQexec(c, "create trigger slow before insert on t for each row execute function pg_temp.slow()"));
	r = PQexec(c, "copy t from stdin");
	CHECK(PQresultStatus(r) == PGRES_COPY_IN);
	PQclear(r);
}

int
main(int argc, char **argv)
{
	PGconn	   *c;
	const char *how = argv[1];
	PGresult   *r;

	CHECK(argc == 3);
	c = must_connect(argv[2]);
	if (!strcmp(how, "exec"))
	{
		say("ready");
		tell(c, "PQexec", PQexec(c, "select pg_sleep(60)"));
	}
	else if (!strcmp(how, "getresult"))
	{
		CHECK(PQsendQuery(c, "select pg_sleep(60)"));
		say("ready");
		while ((r = PQgetResult(c)))
			tell(c, "PQgetResult", r);
	}
	else if (!strcmp(how, "socket"))
	{
		CHECK(PQsendQuery(c, "select pg_sleep(60)"));
		poll_one(PQsocket(c));
		collect(c);
	}
	else if (!strcmp(how, "cmsocket"))
	{
		CHECK(PQsendQuery(c, "select pg_sleep(60)"));
		poll_one(PQcmSocket(c));
		collect(c);
	}
	else if (!strcmp(how, "notify"))
	{
		PQclear(PQexec(c, "listen x"));
		poll_one(PQsocket(c));
		printf("PQconsumeInput: %d\n", PQconsumeInput(c));
		CHECK(PQnotifies(c) == NULL);
		tell(c, "after", NULL);
	}
	else if (!strcmp(how, "copyout"))
	{
		char	   *row;
		int			n;

		r = PQexec(c, "copy (select repeat('x', 20000) union all select pg_sleep(60)::text) to stdout");
		CHECK(PQresultStatus(r) == PGRES_COPY_OUT);
		PQclear(r);
		say("ready");
		while ((n = PQgetCopyData(c, &row, 0)) > 0)
			PQfreemem(row);
		printf("PQgetCopyData: %d\n", n);
		tell(c, "after", NULL);
		tell(c, "PQgetResult", PQgetResult(c));
	}
	else if (!strcmp(how, "copyin"))
	{
		static char line[8192];
		int			n;

		/* the server does not read: the socket fills, and the call blocks */
		memset(line, 'x', sizeof line - 1);
		line[sizeof line - 1] = '\n';
		slow_copy(c);
		say("ready");
		while ((n = PQputCopyData(c, line, sizeof line)) == 1)
			;
		printf("PQputCopyData: %d\n", n);
		tell(c, "after", NULL);
	}
	else if (!strncmp(how, "copyend", 7))
	{
		int			n;

		slow_copy(c);
		CHECK(PQputCopyData(c, "x\n", 2) == 1);
		if (!strcmp(how, "copyend"))
			poll_one(PQsocket(c));
		n = PQputCopyEnd(c, NULL);
		printf("PQputCopyEnd: %d status %s\n", n, PQstatus(c) == CONNECTION_OK ? "ok" : "bad");
		if (!strcmp(how, "copyendwait"))
			say("ready");
		tell(c, "PQgetResult", PQgetResult(c));
		r = PQgetResult(c);
		printf("then %s\n", r ? PQresStatus(PQresultStatus(r)) : "nothing");
		PQclear(r);
	}
	else if (!strcmp(how, "nonsense"))
	{
		tell(c, "PQexec", PQexec(c, "select 1"));
		say("ready");
		hear();
	}
	else if (!strcmp(how, "lo"))
	{
		Oid			oid;
		int			fd;

		PQclear(PQexec(c, "begin"));
		oid = lo_creat(c, 0x60000);
		CHECK(oid);
		fd = lo_open(c, oid, 0x60000);
		CHECK(fd >= 0);
		say("ready");
		hear();					/* the test has locked what the call needs */
		printf("lo_write: %d\n", lo_write(c, fd, "x", 1));
		tell(c, "after", NULL);
	}
	else if (!strcmp(how, "idle"))
	{
		/* What the guide asks for: PQconsumeInput(), which sees the loss even before the watcher. */
		poll_one(PQcmSocket(c));
		PQconsumeInput(c);
		tell(c, "PQexec", PQexec(c, "select 1"));
	}
	else
		return 2;

	/* and every later call on this handle says so too */
	tell(c, "later PQexec", PQexec(c, "select 1"));
	printf("later PQsendQuery: %d\n", PQsendQuery(c, "select 1"));
	printf("later PQconsumeInput: %d\n", PQconsumeInput(c));
	r = PQgetResult(c);
	printf("later PQgetResult: %s\n", r ? "a result" : "none");
	PQclear(r);
	tell(c, "later", NULL);
	PQreset(c);
	printf("PQreset: %s\n", PQstatus(c) == CONNECTION_OK ? "ok" : PQerrorMessage(c));
	PQfinish(c);
	return 0;
}
