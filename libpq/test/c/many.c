/*
 * many.c: many connections in many threads, each blocked in a query, until all are lost. Usage: many number conninfo
 * Says "ready" when every query runs; at the end, how many failed as they should, and the wall clock of the last one (milliseconds).
 */
#include "check.h"

#include <pthread.h>

static const char *conninfo;
static pthread_barrier_t all;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int	lost;
static double last;

static double
clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000.0 + t.tv_nsec / 1e6;
}

static void *
one(void *arg)
{
	PGconn	   *c = must_connect(conninfo);
	PGresult   *r;

	(void) arg;
	CHECK(PQsendQuery(c, "select pg_sleep(60)"));
	pthread_barrier_wait(&all);
	r = PQgetResult(c);
	pthread_mutex_lock(&lock);
	if (PQresultStatus(r) == PGRES_FATAL_ERROR && PQstatus(c) == CONNECTION_BAD)
		lost++;
	last = clock_ms();
	pthread_mutex_unlock(&lock);
	PQclear(r);
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
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	pthread_barrier_init(&all, NULL, (unsigned) n + 1);
	for (int i = 0; i < n; i++)
		CHECK(pthread_create(&threads[i], &attr, one, NULL) == 0);
	pthread_barrier_wait(&all);
	say("ready");
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	printf("lost %d last %.3f\n", lost, last);
	free(threads);
	return 0;
}
