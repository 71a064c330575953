/*
 * forks.c: a connection over a fork. Usage: forks how conninfo
 *   finish  the child ends the inherited connection: the parent's goes on, and is still watched
 *   exit    the child ignores it and exits
 *   use     the parent is gone and the child goes on with it, watched (as a daemon does)
 *   fresh   the child makes one of its own, watched
 *   ends    the child ends it, or (resets) replaces it: what the parent has of
 *           it then
 */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static void
until_lost(PGconn *c)
{
	PGresult   *r = PQexec(c, "select pg_backend_pid()");

	CHECK_OK(c, r, PGRES_TUPLES_OK);
	PQclear(r);
	CHECK(PQsendQuery(c, "select pg_sleep(60)"));
	say("ready");
	r = PQgetResult(c);
	CHECK(PQresultStatus(r) == PGRES_FATAL_ERROR && PQstatus(c) == CONNECTION_BAD);
	printf("%s", PQresultErrorMessage(r));
	fflush(stdout);
	PQclear(r);
}

static void
after_the_child(PGconn *c)
{
	PGresult   *r = PQexec(c, "select 1");

	printf("%s, %s\n", PQresStatus(PQresultStatus(r)),
		   PQstatus(c) == CONNECTION_OK ? "connected" : "not connected");
	PQclear(r);
	PQreset(c);
	CHECK(PQstatus(c) == CONNECTION_OK);
}

int
main(int argc, char **argv)
{
	PGconn	   *c;
	pid_t		child;
	int			status;
	const char *how = argv[1];

	CHECK(argc == 3);
	c = must_connect(argv[2]);
	child = fork();
	CHECK(child >= 0);
	if (child == 0)
	{
		if (!strcmp(how, "finish") || !strcmp(how, "ends"))
			PQfinish(c);
		else if (!strcmp(how, "resets"))
		{
			PQreset(c);
			CHECK(PQstatus(c) == CONNECTION_OK);
			PQfinish(c);
		}
		else if (!strcmp(how, "use"))
		{
			until_lost(c);
			PQfinish(c);
		}
		else if (!strcmp(how, "fresh"))
		{
			PQfinish(c);
			c = must_connect(argv[2]);
			until_lost(c);
			PQfinish(c);
		}
		exit(0);
	}
	if (!strcmp(how, "use"))
		_exit(0);
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	if (!strcmp(how, "finish") || !strcmp(how, "exit"))
		until_lost(c);
	else if (!strcmp(how, "ends") || !strcmp(how, "resets"))
		after_the_child(c);
	PQfinish(c);
	return 0;
}
