/*
 * pool.c: a pool of connections, a thread each, that work all the time, and are retired between two transactions when conmgr says so.
 * Usage: pool number conninfo
 * Needs a table work(thread int, n bigint). Says "ready" when each has had a transaction. At a line of its input it ends, and says what it had:
 * transactions, failed ones, connects, failed ones, and the longest time between two transactions of a thread, in milliseconds.
 */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

extern int	PQcmDraining(const PGconn *conn) __attribute__((weak));

static const char *conninfo;
static atomic_bool stop;
static pthread_barrier_t all;
static atomic_long transactions;
static atomic_long failures;
static atomic_long connects;
static atomic_long refusals;

typedef struct Worker
{
	pthread_t	thread;
	int			number;
	double		longest;
} Worker;

static void
complain(const char *of, PGconn *c)
{
	printf("%s: %s\n", of, PQerrorMessage(c));
	fflush(stdout);
}

static PGconn *
another(void)
{
	PGconn	   *c = PQconnectdb(conninfo);

	atomic_fetch_add(&connects, 1);
	if (PQstatus(c) == CONNECTION_OK)
		return c;
	atomic_fetch_add(&refusals, 1);
	complain("connect", c);
	PQfinish(c);
	return NULL;
}

static int
transact(PGconn *c, int number)
{
	char		insert[80];
	const char *statements[] = {"begin", insert, "commit"};

	snprintf(insert, sizeof insert, "insert into work values (%d, 1)", number);
	for (int i = 0; i < 3; i++)
	{
		PGresult   *r = PQexec(c, statements[i]);
		int			ok = PQresultStatus(r) == PGRES_COMMAND_OK;

		PQclear(r);
		if (!ok)
			return 0;
	}
	return 1;
}

static void *
work(void *arg)
{
	Worker	   *w = arg;
	PGconn	   *c = NULL;
	double		last = 0;

	while (!atomic_load(&stop))
	{
		if (c && PQcmDraining(c))
		{
			PQfinish(c);
			c = NULL;
		}
		if (!c && !(c = another()))
			continue;
		if (transact(c, w->number))
		{
			double		at = now();

			atomic_fetch_add(&transactions, 1);
			if (last == 0)
				pthread_barrier_wait(&all);
			else if (at - last > w->longest)
				w->longest = at - last;
			last = at;
			continue;
		}
		atomic_fetch_add(&failures, 1);
		complain("transaction", c);
		PQfinish(c);
		c = NULL;
	}
	PQfinish(c);
	return NULL;
}

int
main(int argc, char **argv)
{
	int			n = atoi(argv[1]);
	Worker	   *workers = calloc((size_t) n, sizeof *workers);
	double		longest = 0;

	CHECK(argc == 3);
	conninfo = argv[2];
	pthread_barrier_init(&all, NULL, (unsigned) n + 1);
	for (int i = 0; i < n; i++)
	{
		workers[i].number = i;
		CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
	}
	pthread_barrier_wait(&all);
	say("ready");
	hear();
	atomic_store(&stop, true);
	for (int i = 0; i < n; i++)
	{
		pthread_join(workers[i].thread, NULL);
		if (workers[i].longest > longest)
			longest = workers[i].longest;
	}
	printf("transactions %ld failed %ld connects %ld failed %ld longest %.1f\n", transactions, failures, connects, refusals, longest);
	free(workers);
	return 0;
}
