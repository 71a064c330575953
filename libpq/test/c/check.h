/*
 * check.h: for the C test programs of the libpq front. They are ordinary libpq programs, linked with the installed libpq; which libpq they
 * run with is decided by LD_LIBRARY_PATH and LD_PRELOAD.
 */
#ifndef CHECK_H
#define CHECK_H

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <libpq-fe.h>

/* What libpq has since 14, for programs that are built with 13. */
#ifndef LIBPQ_HAS_TRACE_FLAGS
#define PQTRACE_SUPPRESS_TIMESTAMPS 1
#define PQsetTraceFlags(conn, flags) ((void) 0)
#endif

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

/* Bytes of memory. */
static inline size_t
in_use(void)
{
#if __GLIBC_PREREQ(2, 33)
	return mallinfo2().uordblks;
#else
	return (size_t) mallinfo().uordblks;
#endif
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
