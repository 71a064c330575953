/*
 * check.h: for the C test programs of the libpq front. They are ordinary libpq programs, linked with the installed libpq; which libpq they
 * run with is decided by LD_LIBRARY_PATH and LD_PRELOAD.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <libpq-fe.h>

/* NULL with a plain libpq. */
extern int	PQcmSocket(const PGconn *conn) __attribute__((weak));

#define CHECK(condition) \
	do { \
		if (!(condition)) \
		{ \
			printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			exit(1); \
		} \
	} while (0)

#define CHECK_OK(conn, r, wanted) \
	do { \
		if (PQresultStatus(r) != (wanted)) \
		{ \
			printf("%s:%d: %s: %s\n", __FILE__, __LINE__, PQresStatus(PQresultStatus(r)), PQerrorMessage(conn)); \
			exit(1); \
		} \
	} while (0)

static inline PGconn *
must_connect(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
	{
		printf("could not connect: %s", PQerrorMessage(conn));
		exit(1);
	}
	return conn;
}

static inline double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000.0 + t.tv_nsec / 1e6;
}

/* Tells the test, and waits for its answer where there is one to wait for. */
static inline void
say(const char *what)
{
	printf("%s\n", what);
	fflush(stdout);
}

static inline void
hear(void)
{
	char		line[64];

	if (!fgets(line, sizeof line, stdin))
		exit(3);
}

#endif
