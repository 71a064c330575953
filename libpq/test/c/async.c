/*
 * async.c: connects asynchronously, and tells what an application sees of it. Usage: async conninfo [milliseconds [reset]]
 * When nothing has come for that time, if given, it gives up. With "reset" it says "ready" when it is connected, and after an answer resets the connection,
 * asynchronously again.
 */
#include "check.h"

#include <poll.h>

/* Until it is connected, or failed, or nothing comes in time; false in the last case. */
static int
drive(PGconn *c, PostgresPollingStatusType (*step) (PGconn *), double start, double limit)
{
	double		longest = now() - start;
	PostgresPollingStatusType s = PQstatus(c) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
	int			asked = 0;
	int			sockets = 0;
	int			socket = -1;

	while (s == PGRES_POLLING_READING || s == PGRES_POLLING_WRITING)
	{
		struct pollfd p = {.fd = PQsocket(c), .events = s == PGRES_POLLING_READING ? POLLIN : POLLOUT};
		double		before;

		CHECK(p.fd >= 0);
		sockets += p.fd != socket;
		socket = p.fd;
		if (poll(&p, 1, (int) limit) == 0)
		{
			if ((int) PQstatus(c) == 1000)	/* nothing that could be cancelled is there yet */
				CHECK(PQgetCancel(c) == NULL && PQrequestCancel(c) == 0);
			printf("gave up: status %d longest call %.1f ms at %s (%s) port %s said <%s>\n",
				   (int) PQstatus(c), longest, PQhost(c), PQhostaddr(c), PQport(c), PQerrorMessage(c));
			return 0;
		}
		before = now();
		s = step(c);
		if (now() - before > longest)
			longest = now() - before;
		asked |= (int) PQstatus(c) == 1000;
	}
	if (s != PGRES_POLLING_OK)
	{
		printf("failed: %s", PQerrorMessage(c));
		CHECK(PQexec(c, "select 1") == NULL);
		printf("then: %s", PQerrorMessage(c));
	}
	else
		printf("connected: port %s awaited conmgr %s sockets %s longest call %.1f ms\n", PQport(c), asked ? "yes" : "no",
			   sockets > 1 ? "many" : "one", longest);
	return 1;
}

int
main(int argc, char **argv)
{
	double		start = now();
	double		limit = argc > 2 ? atof(argv[2]) : 20000;
	PGconn	   *c = PQconnectStart(argv[1]);
	int			ended = drive(c, PQconnectPoll, start, limit);

	if (ended && argc > 3)
	{
		CHECK(PQstatus(c) == CONNECTION_OK);
		say("ready");
		hear();
		start = now();
		if (!PQresetStart(c))
			printf("PQresetStart: %s", PQerrorMessage(c));
		else if (drive(c, PQresetPoll, start, limit) && PQstatus(c) == CONNECTION_OK)
		{
			PGresult   *r = PQexec(c, "select inet_server_port()");

			CHECK_OK(c, r, PGRES_TUPLES_OK);
			printf("reset to %s\n", PQgetvalue(r, 0, 0));
			PQclear(r);
		}
	}
	PQfinish(c);
	return 0;
}
