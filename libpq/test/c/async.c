/*
 * async.c: connects asynchronously, and tells what an application sees of it. Usage: async conninfo [milliseconds]
 * At the end of that time, if given, it gives up.
 */
#include "check.h"

#include <poll.h>

int
main(int argc, char **argv)
{
	double		start = now();
	double		limit = argc > 2 ? atof(argv[2]) : 20000;
	double		longest = 0;
	PGconn	   *c = PQconnectStart(argv[1]);
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;
	int			asked = 0;
	int			sockets = 0;
	int			socket = -1;

	if (PQstatus(c) == CONNECTION_BAD)
		s = PGRES_POLLING_FAILED;
	longest = now() - start;
	while (s == PGRES_POLLING_READING || s == PGRES_POLLING_WRITING)
	{
		struct pollfd p = {.fd = PQsocket(c), .events = s == PGRES_POLLING_READING ? POLLIN : POLLOUT};
		double		left = start + limit - now();
		double		before;

		CHECK(p.fd >= 0);
		sockets += p.fd != socket;
		socket = p.fd;
		if (left <= 0 || poll(&p, 1, (int) left) == 0)
		{
			printf("gave up: status %d longest call %.1f ms\n", (int) PQstatus(c), longest);
			PQfinish(c);
			return 0;
		}
		before = now();
		s = PQconnectPoll(c);
		if (now() - before > longest)
			longest = now() - before;
		asked |= (int) PQstatus(c) == 1000;
	}
	if (s != PGRES_POLLING_OK)
		printf("failed: %s", PQerrorMessage(c));
	else
		printf("connected: port %s awaited conmgr %s sockets %s longest call %.1f ms\n", PQport(c), asked ? "yes" : "no",
			   sockets > 1 ? "many" : "one", longest);
	PQfinish(c);
	return 0;
}
