/*
 * wait.c: an application with several connections, a thread each, all blocked in PQexec on a query that does not end. Usage: wait [name conninfo]...
 * Writes a line for each connection when PQexec returns: its name, and CLOCK_MONOTONIC in seconds. A query that succeeds, or a connection that cannot be made, is a
 * failure of the program. It ends when all connections are lost.
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void *
one(void *arg)
{
	char	  **argv = arg;
	PGconn	   *c = PQconnectdb(argv[1]);
	PGresult   *r;
	struct timespec t;

	if (PQstatus(c) != CONNECTION_OK)
	{
		fprintf(stderr, "%s: %s", argv[0], PQerrorMessage(c));
		exit(1);
	}
	r = PQexec(c, "SELECT pg_sleep(600)");
	clock_gettime(CLOCK_MONOTONIC, &t);
	if (PQresultStatus(r) != PGRES_FATAL_ERROR || PQstatus(c) != CONNECTION_BAD)
	{
		fprintf(stderr, "%s: the query has ended: %s", argv[0], PQerrorMessage(c));
		exit(1);
	}
	printf("%s\t%ld.%09ld\n", argv[0], (long) t.tv_sec, t.tv_nsec);
	return NULL;				/* nothing is closed: what a program does afterwards is not the time until it knows */
}

int
main(int argc, char **argv)
{
	int			n = (argc - 1) / 2;
	pthread_t  *threads = calloc(n + 1, sizeof(*threads));

	if (argc < 3 || argc % 2 == 0)
	{
		fprintf(stderr, "usage: wait [name conninfo]...\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, one, argv + 1 + 2 * i) != 0)
			abort();
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
