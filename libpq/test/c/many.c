/*
 * many.c: many connections in many threads, each blocked in a query, until all are lost. Usage: many number conninfo
 * Says "ready" when every query runs; at the end, how many failed as they should, and when the first, the middle and the last of them did
 * (CLOCK_MONOTONIC, milliseconds).
 */
#include "check.h"

#include <pthread.h>

static const char *conninfo;
static pthread_barrier_t all;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int	lost;
static double *times;			/* when each had its error; the first "lost" are filled */

static int
by_time(const void *a, const void *b)
{
	return *(const double *) a < *(const double *) b ? -1 : *(const double *) a > *(const double *) b;
}

static void *
one(void *arg)
{
	PGconn	   *c = must_connect(conninfo);
	PGresult   *r;
	double		at;

	(void) arg;
	CHECK(PQsendQuery(c, "select pg_sleep(60)"));
	pthread_barrier_wait(&all);
	r = PQgetResult(c);
	at = now();
	if (PQresultStatus(r) == PGRES_FATAL_ERROR && PQstatus(c) == CONNECTION_BAD)
	{
		pthread_mutex_lock(&lock);
		times[lost++] = at;
		pthread_mutex_unlock(&lock);
	}
	PQclear(r);
	pthread_barrier_wait(&all);	/* what a program does afterwards is not the time until it knows */
	PQfinish(c);
	return NULL;
}

int
main(int argc, char **argv)
{
	int			n = atoi(argv[1]);
	pthread_t  *threads = calloc((size_t) n, sizeof *threads);
	pthread_attr_t attr;

	CHECK(argc == 3);
	conninfo = argv[2];
	times = calloc((size_t) n, sizeof *times);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	pthread_barrier_init(&all, NULL, (unsigned) n + 1);
	for (int i = 0; i < n; i++)
		CHECK(pthread_create(&threads[i], &attr, one, NULL) == 0);
	pthread_barrier_wait(&all);
	say("ready");
	pthread_barrier_wait(&all);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	qsort(times, (size_t) lost, sizeof *times, by_time);
	if (lost)
		printf("lost %d at %.3f %.3f %.3f\n", lost, times[0], times[lost / 2], times[lost - 1]);
	free(threads);
	free(times);
	return 0;
}
