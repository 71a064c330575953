/*
 * write.c: an application that reconnects. Usage: write name conninfo milliseconds
 * Connects, inserts a row into "written", and waits in a query until its connection is lost. Then connects and inserts again, with a pause after each failure, until a row
 * is written. Writes a line for each of these: its name, CLOCK_MONOTONIC in seconds, and "ready", "lost" or "written".
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void
say(char **argv, const char *what)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	printf("%s\t%ld.%09ld\t%s\n", argv[1], (long) t.tv_sec, t.tv_nsec, what);
	fflush(stdout);
}

/* A connection that has written; tries until there is one. */
static PGconn *
writer(char **argv)
{
	long		ms = atol(argv[3]);
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	for (;;)
	{
		PGconn	   *c = PQconnectdb(argv[2]);
		PGresult   *r = PQexec(c, "INSERT INTO written VALUES (1)");
		ExecStatusType status = PQresultStatus(r);

		PQclear(r);
		if (status == PGRES_COMMAND_OK)
			return c;
		PQfinish(c);
		nanosleep(&pause, NULL);
	}
}

int
main(int argc, char **argv)
{
	PGconn	   *c;

	if (argc != 4)
	{
		fprintf(stderr, "usage: write name conninfo milliseconds\n");
		return 2;
	}
	c = writer(argv);
	say(argv, "ready");
	PQclear(PQexec(c, "SELECT pg_sleep(600)"));
	say(argv, "lost");
	PQfinish(c);
	c = writer(argv);
	say(argv, "written");
	PQfinish(c);
	return 0;
}
