/*
 * told.c: a connection by way of conmgr, and what the program has of conmgr's word, as the test asks for it. Usage: told conninfo
 * Says "ready", then reads commands, one a line, and answers each with a line:
 *   pid        a query
 *   sends      PQsendQuery of a long one
 *   result     PQgetResult, until it is over
 *   draining   PQcmDraining
 *   consume    PQconsumeInput
 *   polls      whether PQcmSocket is readable, by poll and by an epoll that knew it from the beginning
 *   until      waits until it is
 *   spins      as a program of 1.0: consumes as long as it is readable, and says how often
 *   asks       the same by PQgetResult
 *   works      three queries by PQsendQuery and PQgetResult
 *   begin      PQcmSocket is asked for only now
 *   alive      keepalives of the SQL socket
 *   finish     PQfinish, and the end
 */
#include "check.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

extern int	PQcmDraining(const PGconn *conn) __attribute__((weak));

static int	number = -1;
static int	queue;

static void
begin(PGconn *c)
{
	struct epoll_event e = {.events = EPOLLIN};

	number = PQcmSocket(c);
	queue = epoll_create1(EPOLL_CLOEXEC);
	CHECK(number >= 0 && queue >= 0);
	CHECK(epoll_ctl(queue, EPOLL_CTL_ADD, number, &e) == 0);
}

static int
readable(PGconn *c, int timeout)
{
	struct pollfd p = {.fd = PQcmSocket(c), .events = POLLIN};
	struct epoll_event e;
	int			n = poll(&p, 1, timeout);

	CHECK(p.fd == number);
	CHECK(n == epoll_wait(queue, &e, 1, 0));
	return n;
}

static int
option(int fd, int level, int name)
{
	int			value = -1;
	socklen_t	size = sizeof value;

	CHECK(getsockopt(fd, level, name, &value, &size) == 0);
	return value;
}

static void
one_line(const char *before, const char *text)
{
	printf("%s", before);
	for (; *text; text++)
		putchar(*text == '\n' ? ' ' : *text);
	say("");
}

static void
query(PGconn *c)
{
	PGresult   *r = PQexec(c, "select pg_backend_pid()");

	if (PQresultStatus(r) == PGRES_TUPLES_OK)
		one_line("pid ", PQgetvalue(r, 0, 0));
	else
		one_line("failed ", r ? PQresultErrorMessage(r) : PQerrorMessage(c));
	PQclear(r);
}

static void
results(PGconn *c)
{
	PGresult   *r;
	char		message[2000] = "";

	while ((r = PQgetResult(c)))
	{
		snprintf(message, sizeof message, "%s %s", PQresStatus(PQresultStatus(r)), PQresultErrorMessage(r));
		PQclear(r);
	}
	one_line("result ", message);
}

static void
spin(PGconn *c, int by_result)
{
	int			n = 0;
	int			ok = 1;

	while (ok && n < 100 && readable(c, 0) > 0)
	{
		n++;
		if (by_result)
			CHECK(PQgetResult(c) == NULL);
		else
			ok = PQconsumeInput(c);
	}
	printf("spins %d %s\n", n, ok ? "ok" : "lost");
	fflush(stdout);
}

static int
obey(PGconn *c, const char *command)
{
	if (!strcmp(command, "pid"))
		query(c);
	else if (!strcmp(command, "sends"))
		printf("sends %d\n", PQsendQuery(c, "select pg_sleep(60)"));
	else if (!strcmp(command, "result"))
		results(c);
	else if (!strcmp(command, "draining"))
		printf("draining %d\n", PQcmDraining(c));
	else if (!strcmp(command, "consume"))
		printf("consume %d\n", PQconsumeInput(c));
	else if (!strcmp(command, "polls"))
		printf("polls %d\n", readable(c, 0));
	else if (!strcmp(command, "until"))
		printf("until %d\n", readable(c, 60000));
	else if (!strcmp(command, "spins"))
		spin(c, 0);
	else if (!strcmp(command, "asks"))
		spin(c, 1);
	else if (!strcmp(command, "works"))
	{
		for (int i = 0; i < 3; i++)
		{
			CHECK(PQsendQuery(c, "select 1"));
			for (PGresult *r; (r = PQgetResult(c));)
				PQclear(r);
		}
		say("works");
	}
	else if (!strcmp(command, "begin"))
	{
		begin(c);
		say("begun");
	}
	else if (!strcmp(command, "alive"))
		printf("alive %d idle %d interval %d user timeout %d\n", option(PQsocket(c), SOL_SOCKET, SO_KEEPALIVE),
			   option(PQsocket(c), IPPROTO_TCP, TCP_KEEPIDLE), option(PQsocket(c), IPPROTO_TCP, TCP_KEEPINTVL),
			   option(PQsocket(c), IPPROTO_TCP, TCP_USER_TIMEOUT));
	else
		return 0;
	fflush(stdout);
	return 1;
}

int
main(int argc, char **argv)
{
	char		line[64];
	PGconn	   *c;

	CHECK(argc == 2);
	c = must_connect(argv[1]);
	say("ready");
	while (fgets(line, sizeof line, stdin))
	{
		line[strcspn(line, "\n")] = '\0';
		if (!obey(c, line))
			break;
	}
	PQfinish(c);
	say("finished");
	return 0;
}
