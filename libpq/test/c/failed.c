/*
 * failed.c: what a handle shows when the connection could not be made, and in what form it gives errors if it could. Usage: failed conninfo [async]
 */
#include "check.h"

#include <poll.h>

static void
show(const char *when, PGconn *c)
{
	printf("%s: status %d host=%s hostaddr=%s port=%s user=%s db=%s\n", when, (int) PQstatus(c), PQhost(c), PQhostaddr(c), PQport(c),
		   PQuser(c), PQdb(c));
}

int
main(int argc, char **argv)
{
	PGconn	   *c;
	PQconninfoOption *options;

	CHECK(argc >= 2);
	c = argc > 2 ? PQconnectStart(argv[1]) : PQconnectdb(argv[1]);
	if (argc > 2)
	{
		PostgresPollingStatusType s = PQstatus(c) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;

		while (s == PGRES_POLLING_READING || s == PGRES_POLLING_WRITING)
		{
			struct pollfd p = {.fd = PQsocket(c), .events = s == PGRES_POLLING_READING ? POLLIN : POLLOUT};

			CHECK(poll(&p, 1, 20000) == 1);
			s = PQconnectPoll(c);
			if ((int) PQstatus(c) == 1000)
				show("awaits conmgr", c);
		}
	}
	if (PQstatus(c) == CONNECTION_OK)
	{
		PQclear(PQexec(c, "select 1/0"));
		printf("connected: %s", PQerrorMessage(c));
		PQfinish(c);
		return 0;
	}
	show("failed", c);
	printf("%s", PQerrorMessage(c));
	options = PQconninfo(c);
	for (PQconninfoOption *o = options; o && o->keyword; o++)
		if (o->val && (!strcmp(o->keyword, "host") || !strcmp(o->keyword, "hostaddr") || !strcmp(o->keyword, "port") ||
					   !strcmp(o->keyword, "user") || !strcmp(o->keyword, "dbname") || !strcmp(o->keyword, "sslmode")))
			printf("%s=%s ", o->keyword, o->val);
	PQconninfoFree(options);
	CHECK(PQexec(c, "select 1") == NULL);
	printf("\nthen: %s", PQerrorMessage(c));
	show("then", c);
	PQfinish(c);
	return 0;
}
