/*
 * connect.c: connects, asks for one value, closes; again and again. Usage: connect number conninfo
 * Prints, a line each, the microseconds from the start of the connect to the end of the first answer. Ends with status 1 at the first failure.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

int
main(int argc, char **argv)
{
	if (argc != 3)
	{
		fprintf(stderr, "usage: connect number conninfo\n");
		return 2;
	}
	for (int i = atoi(argv[1]); i > 0; i--)
	{
		double		start = now();
		PGconn	   *c = PQconnectdb(argv[2]);
		PGresult   *r = PQexec(c, "SELECT 1");

		if (PQresultStatus(r) != PGRES_TUPLES_OK)
		{
			fprintf(stderr, "%s", PQerrorMessage(c));
			return 1;
		}
		printf("%.1f\n", now() - start);
		PQclear(r);
		PQfinish(c);
	}
	return 0;
}
