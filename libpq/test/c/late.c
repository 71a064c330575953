/*
 * late.c: the application sees on PQcmSocket() that its instance is lost, and its next call sends something. Usage: late call conninfo
 * Says "ready" when it waits for PQcmSocket(), and then what the call gave. That PQcmSocket() does not tell before the front's thread has shut the
 * SQL connection down, a shutdown() of ours sees (exported from the program).
 *
 * The call "closes": each peer that is going to close does so between the front's look at the socket and what libpq does next, for which a
 * recv() of ours waits; it says where to.
 *
 * The call "connect": the loss comes while it connects, and before the front's thread has come to it, which an epoll_wait() of ours keeps from its
 * work; it says where to.
 */
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_bool held;
static atomic_int told = -1;

int
epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	int			n = (int) syscall(SYS_epoll_pwait, fd, events, max, timeout, NULL, 0);

	while (atomic_load(&held))
		pause();
	return n;
}

static bool waiting;

ssize_t
recv(int fd, void *to, size_t n, int flags)
{
	ssize_t		got = syscall(SYS_recvfrom, fd, to, n, flags, NULL, NULL);

	if (waiting && got < 0 && errno == EAGAIN && (flags & MSG_PEEK))
	{
		struct pollfd p = {.fd = fd, .events = POLLRDHUP};

		poll(&p, 1, 100);
		errno = EAGAIN;
	}
	return got;
}

int
shutdown(int fd, int how)
{
	struct pollfd p = {.fd = atomic_load(&told), .events = POLLIN};

	CHECK(poll(&p, 1, 0) == 0);
	return (int) syscall(SYS_shutdown, fd, how);
}

static void
tell(PGconn *c, int given)
{
	printf("gave %d status %s message %s\n", given, PQstatus(c) == CONNECTION_OK ? "ok" : "bad", PQerrorMessage(c));
}

static void
tell_result(PGconn *c, PGresult *r)
{
	printf("gave %s status %s message %s\n", r ? PQresStatus(PQresultStatus(r)) : "none", PQstatus(c) == CONNECTION_OK ? "ok" : "bad",
		   r ? PQresultErrorMessage(r) : PQerrorMessage(c));
	PQclear(r);
}

static void
copy_in(PGconn *c)
{
	PGresult   *r;

	PQclear(PQexec(c, "create temp table t(a text)"));
	r = PQexec(c, "copy t from stdin");
	CHECK_OK(c, r, PGRES_COPY_IN);
	PQclear(r);
}

/* All that is still to be had, up to the error. */
static void
drain(PGconn *c)
{
	for (int i = 0; i < 10 && PQstatus(c) == CONNECTION_OK; i++)
	{
		PGresult   *r = PQgetResult(c);

		if (r && PQresultStatus(r) == PGRES_COPY_IN)
		{
			int			given = PQputCopyEnd(c, NULL);

			if (given != 1)
				tell(c, given);
		}
		else if (r)
		{
			tell_result(c, r);
			continue;
		}
		else if (PQstatus(c) == CONNECTION_OK &&
				 PQsendQueryParams(c, "insert into late values ('in the end')", 0, NULL, NULL, NULL, NULL, 0) != 1)
			tell(c, 0);			/* so does libpq before 15 */
		PQclear(r);
	}
}

int
main(int argc, char **argv)
{
	static char row[8192];
	struct pollfd p = {.events = POLLIN};
	const char *call = argv[1];
	PGconn	   *c;
	Oid			oid = 0;

	CHECK(argc == 3);
	memset(row, 'x', sizeof row - 1);
	row[sizeof row - 1] = '\n';
	if (!strcmp(call, "connect"))
	{
		atomic_store(&held, true);
		c = must_connect(argv[2]);
		printf("connected: port %s\n", PQport(c));
		fflush(stdout);
		_exit(0);				/* its thread is still held */
	}
	waiting = !strcmp(call, "closes");
	c = must_connect(argv[2]);
	if (waiting)
	{
		printf("connected: port %s\n", PQport(c));
		return 0;
	}
	if (!strncmp(call, "PQputCopy", 9))
		copy_in(c);
	else if (!strncmp(call, "lo_", 3))
	{
		PQclear(PQexec(c, "begin"));
		oid = lo_creat(c, 0x60000);
		CHECK(oid);
	}
#ifdef LIBPQ_HAS_PIPELINING
	else if (!strcmp(call, "PQpipelineSync") || !strcmp(call, "PQsendFlushRequest"))
		CHECK(PQenterPipelineMode(c) == 1);
#endif
	p.fd = PQcmSocket(c);
	atomic_store(&told, p.fd);
	say("ready");
	CHECK(poll(&p, 1, 60000) == 1);

	if (!strcmp(call, "PQexec"))
		tell_result(c, PQexec(c, "insert into late values ('by PQexec')"));
	else if (!strcmp(call, "PQexecParams"))
		tell_result(c, PQexecParams(c, "insert into late values ('by PQexecParams')", 0, NULL, NULL, NULL, NULL, 0));
	else if (!strcmp(call, "PQprepare"))
		tell_result(c, PQprepare(c, "p", "select 1", 0, NULL));
	else if (!strcmp(call, "PQsendQuery"))
		tell(c, PQsendQuery(c, "insert into late values ('by PQsendQuery')"));
	else if (!strcmp(call, "PQsendQueryParams"))
		tell(c, PQsendQueryParams(c, "insert into late values ('by PQsendQueryParams')", 0, NULL, NULL, NULL, NULL, 0));
#ifdef LIBPQ_HAS_PIPELINING
	else if (!strcmp(call, "PQpipelineSync"))
		tell(c, PQpipelineSync(c));
	else if (!strcmp(call, "PQsendFlushRequest"))
		tell(c, PQsendFlushRequest(c));
#endif
	else if (!strcmp(call, "PQflush"))
		tell(c, PQflush(c));
	else if (!strcmp(call, "PQputCopyData"))
		tell(c, PQputCopyData(c, row, sizeof row));
	else if (!strcmp(call, "PQputCopyData of small rows"))
	{
		int			n = 0;
		int			given;

		/* libpq gathers 8 kB, fails to send them, and tells of it when it comes to send the next */
		while ((given = PQputCopyData(c, "abc\n", 4)) == 1 && n <= 3 * 8192)
			n += 4;
		CHECK(n > 0 && n <= 3 * 8192);
		tell(c, given);
	}
	else if (!strcmp(call, "PQputCopyEnd"))
		tell(c, PQputCopyEnd(c, NULL));
	else if (!strcmp(call, "lo_open"))
		tell(c, lo_open(c, oid, 0x60000));
	else if (!strcmp(call, "PQsetClientEncoding"))
		tell(c, PQsetClientEncoding(c, "LATIN1"));
	else if (!strcmp(call, "PQconsumeInput"))
		tell(c, PQconsumeInput(c));
	else
		return 2;
	drain(c);
	tell(c, PQsendQuery(c, "select 1"));

	PQfinish(c);
	printf("finished\n");
	return 0;
}
