/*
 * resets.c: what each call gives on a connection that was lost while it was idle. Usage: resets setup conninfo call ...
 * It says "ready" when the connection stands as setup wants it, waits for the end of the socket, and then makes the calls, a line each. The
 * same program runs with the installed libpq and a connection that was reset.
 */
#include "check.h"

#include <poll.h>

static PGconn *c;
static Oid	oid;
static int	large;
static const char *const none[1];

/* Without what the front adds: the test looks for that elsewhere. */
static void
tell(const char *call, const char *gave, const char *message)
{
	size_t		n = strcspn(message, "\n");

	if (!strncmp(message, "lost the ", 9))
		n = 0;
	printf("%s: %s; status %s, transaction %d", call, gave, PQstatus(c) == CONNECTION_OK ? "ok" : "bad",
		   (int) PQtransactionStatus(c));
#ifdef LIBPQ_HAS_PIPELINING
	printf(", pipeline %d", (int) PQpipelineStatus(c));
#endif
	printf("; %.*s%s\n", (int) n, message, strstr(message, "lost the ") ? " LOST" : "");
}

static void
number(const char *call, long n)
{
	char		gave[32];

	snprintf(gave, sizeof gave, "%ld", n);
	tell(call, gave, PQerrorMessage(c));
}

static void
result(const char *call, PGresult *r)
{
	char		gave[128];
	const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;

	snprintf(gave, sizeof gave, "%s sqlstate %s", r ? PQresStatus(PQresultStatus(r)) : "none", state ? state : "none");
	tell(call, gave, r ? PQresultErrorMessage(r) : PQerrorMessage(c));
	PQclear(r);
}

static void
call(const char *name)
{
	static char big[20000];

	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\n';
#define IS(n) (!strcmp(name, #n))
	if (IS(PQexec))
		result(name, PQexec(c, "insert into resets values (1)"));
	else if (IS(PQexecParams))
		result(name, PQexecParams(c, "insert into resets values (1)", 0, NULL, NULL, NULL, NULL, 0));
	else if (IS(PQprepare))
		result(name, PQprepare(c, "q", "select 1", 0, NULL));
	else if (IS(PQexecPrepared))
		result(name, PQexecPrepared(c, "p", 0, NULL, NULL, NULL, 0));
	else if (IS(PQdescribePrepared))
		result(name, PQdescribePrepared(c, "p"));
	else if (IS(PQdescribePortal))
		result(name, PQdescribePortal(c, "p"));
	else if (IS(PQsendQuery))
		number(name, PQsendQuery(c, "insert into resets values (1)"));
	else if (IS(PQsendQueryParams))
		number(name, PQsendQueryParams(c, "insert into resets values (1)", 0, NULL, NULL, NULL, NULL, 0));
	else if (IS(PQsendPrepare))
		number(name, PQsendPrepare(c, "q", "select 1", 0, NULL));
	else if (IS(PQsendQueryPrepared))
		number(name, PQsendQueryPrepared(c, "p", 0, none, NULL, NULL, 0));
	else if (IS(PQsendDescribePrepared))
		number(name, PQsendDescribePrepared(c, "p"));
	else if (IS(PQsendDescribePortal))
		number(name, PQsendDescribePortal(c, "p"));
	else if (IS(PQgetResult))
		result(name, PQgetResult(c));
	else if (IS(PQconsumeInput))
		number(name, PQconsumeInput(c));
	else if (IS(PQisBusy))
		number(name, PQisBusy(c));
	else if (IS(PQflush))
		number(name, PQflush(c));
	else if (IS(PQnotifies))
		number(name, PQnotifies(c) != NULL);
	else if (IS(PQputCopyData))
		number(name, PQputCopyData(c, "1\n", 2));
	else if (IS(PQputCopyDataBig))
		number(name, PQputCopyData(c, big, sizeof big));
	else if (IS(PQputCopyEnd))
		number(name, PQputCopyEnd(c, NULL));
	else if (IS(PQputline))
		number(name, PQputline(c, "1\n"));
	else if (IS(PQputnbytes))
		number(name, PQputnbytes(c, "1\n", 2));
	else if (IS(PQendcopy))
		number(name, PQendcopy(c));
	else if (IS(PQgetCopyData))
	{
		char	   *row = NULL;

		number(name, PQgetCopyData(c, &row, 0));
		PQfreemem(row);
	}
	else if (IS(PQgetCopyDataAsync))
	{
		char	   *row = NULL;

		number(name, PQgetCopyData(c, &row, 1));
		PQfreemem(row);
	}
	else if (IS(PQsetClientEncoding))
		number(name, PQsetClientEncoding(c, "LATIN1"));
	else if (IS(PQsetnonblocking))
		number(name, PQsetnonblocking(c, 1));
	else if (IS(PQsetSingleRowMode))
		number(name, PQsetSingleRowMode(c));
	else if (IS(PQfn))
	{
		int			value = 0;
		int			len = 0;

		result(name, PQfn(c, 1316, &value, &len, 1, NULL, 0));
	}
	else if (IS(lo_creat))
		number(name, lo_creat(c, 0x60000));
	else if (IS(lo_open))
		number(name, lo_open(c, oid, 0x60000));
	else if (IS(lo_write))
		number(name, lo_write(c, large, "x", 1));
	else if (IS(lo_read))
		number(name, lo_read(c, large, big, 1));
	else if (IS(PQencryptPasswordConn))
	{
		char	   *password = PQencryptPasswordConn(c, "a", "b", NULL);

		number(name, password != NULL);
		PQfreemem(password);
	}
#ifdef LIBPQ_HAS_PIPELINING
	else if (IS(PQenterPipelineMode))
		number(name, PQenterPipelineMode(c));
	else if (IS(PQexitPipelineMode))
		number(name, PQexitPipelineMode(c));
	else if (IS(PQpipelineSync))
		number(name, PQpipelineSync(c));
	else if (IS(PQsendFlushRequest))
		number(name, PQsendFlushRequest(c));
#endif
	else
	{
		printf("unknown call %s\n", name);
		exit(2);
	}
}

static void
prepare(const char *setup)
{
	PQclear(PQexec(c, "prepare p as select 1"));
	if (!strcmp(setup, "nonblocking"))
		CHECK(PQsetnonblocking(c, 1) == 0);
	else if (!strcmp(setup, "transaction"))
		PQclear(PQexec(c, "begin"));
	else if (!strcmp(setup, "large"))
	{
		PQclear(PQexec(c, "begin"));
		oid = lo_creat(c, 0x60000);
		large = lo_open(c, oid, 0x60000);
		CHECK(oid && large >= 0);
	}
	else if (!strncmp(setup, "copyin", 6) || !strcmp(setup, "copyout"))
	{
		PGresult   *r;

		PQclear(PQexec(c, "create temp table t(a text)"));
		r = PQexec(c, !strcmp(setup, "copyout") ? "copy (select 1) to stdout" : "copy t from stdin");
		CHECK(PQresultStatus(r) == PGRES_COPY_IN || PQresultStatus(r) == PGRES_COPY_OUT);
		PQclear(r);
		if (!strcmp(setup, "copyinnonblocking"))
			CHECK(PQsetnonblocking(c, 1) == 0);
	}
#ifdef LIBPQ_HAS_PIPELINING
	else if (!strcmp(setup, "pipeline"))
		CHECK(PQenterPipelineMode(c) == 1);
#endif
	else
		CHECK(!strcmp(setup, "idle"));
}

int
main(int argc, char **argv)
{
	struct pollfd p = {.events = 0};

	CHECK(argc > 3);
	c = must_connect(argv[2]);
	prepare(argv[1]);
	say("ready");
	p.fd = PQsocket(c);
	while (poll(&p, 1, 60000) < 0 || !(p.revents & POLLHUP))
		;
	for (int i = 3; i < argc; i++)
		call(argv[i]);
	PQfinish(c);
	return 0;
}
