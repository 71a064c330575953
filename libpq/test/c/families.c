/* families.c: one use of each family of libpq's functions, over one connection. Usage: families conninfo */
#include "check.h"

/* exported, but not in the public header */
extern char *const pgresStatus[];

#include <poll.h>
#include <libpq-events.h>

static int	notices;

static void
on_notice(void *arg, const char *message)
{
	CHECK(arg == &notices && strstr(message, "hello"));
	notices++;
}

static void
queries(PGconn *c)
{
	const char *values[1] = {"41"};
	PGresult   *r = PQexecParams(c, "select $1::int + 1 as answer", 1, NULL, values, NULL, NULL, 0);

	CHECK_OK(c, r, PGRES_TUPLES_OK);
	CHECK(!strcmp(PQgetvalue(r, 0, 0), "42") && !strcmp(PQfname(r, 0), "answer") && PQftype(r, 0) == 23);
	PQclear(r);
	r = PQprepare(c, "p", "select $1::int * 2", 1, NULL);
	CHECK_OK(c, r, PGRES_COMMAND_OK);
	PQclear(r);
	r = PQdescribePrepared(c, "p");
	CHECK(PQnparams(r) == 1 && PQparamtype(r, 0) == 23);
	PQclear(r);
	r = PQexecPrepared(c, "p", 1, values, NULL, NULL, 0);
	CHECK(!strcmp(PQgetvalue(r, 0, 0), "82"));
	PQclear(r);
	r = PQexec(c, "select 1/0");
	CHECK_OK(c, r, PGRES_FATAL_ERROR);
	CHECK(!strcmp(PQresultErrorField(r, PG_DIAG_SQLSTATE), "22012"));
	CHECK(strstr(PQresultErrorMessage(r), "division by zero") && strstr(PQerrorMessage(c), "division by zero"));
	PQclear(r);
	CHECK(PQtransactionStatus(c) == PQTRANS_IDLE && PQstatus(c) == CONNECTION_OK);
}

static void
copies(PGconn *c)
{
	char	   *row;
	PGresult   *r = PQexec(c, "create temp table t(a int, b text)");

	PQclear(r);
	r = PQexec(c, "copy t from stdin");
	CHECK_OK(c, r, PGRES_COPY_IN);
	PQclear(r);
	for (int i = 0; i < 1000; i++)
	{
		char		line[64];

		CHECK(PQputCopyData(c, line, snprintf(line, sizeof line, "%d\tx\n", i)) == 1);
	}
	CHECK(PQputCopyEnd(c, NULL) == 1);
	r = PQgetResult(c);
	CHECK_OK(c, r, PGRES_COMMAND_OK);
	CHECK(!strcmp(PQcmdTuples(r), "1000"));
	PQclear(r);
	CHECK(PQgetResult(c) == NULL);
	r = PQexec(c, "copy t to stdout");
	CHECK_OK(c, r, PGRES_COPY_OUT);
	PQclear(r);
	for (int n = 0;; n++)
	{
		int			len = PQgetCopyData(c, &row, 0);

		if (len == -1)
		{
			CHECK(n == 1000);
			break;
		}
		CHECK(len > 0);
		PQfreemem(row);
	}
	r = PQgetResult(c);
	CHECK_OK(c, r, PGRES_COMMAND_OK);
	PQclear(r);
	CHECK(PQgetResult(c) == NULL);
}

static void
messages(PGconn *c)
{
	PGresult   *r;
	PGnotify   *n;

	PQsetNoticeProcessor(c, on_notice, &notices);
	r = PQexec(c, "do $$ begin raise notice 'hello'; end $$");
	CHECK_OK(c, r, PGRES_COMMAND_OK);
	PQclear(r);
	CHECK(notices == 1);
	PQclear(PQexec(c, "listen a"));
	PQclear(PQexec(c, "notify a, 'news'"));
	n = PQnotifies(c);
	CHECK(n && !strcmp(n->relname, "a") && !strcmp(n->extra, "news") && n->be_pid == PQbackendPID(c));
	PQfreemem(n);
}

#ifdef LIBPQ_HAS_PIPELINING
static void
pipelines(PGconn *c)
{
	PGresult   *r;

	CHECK(PQenterPipelineMode(c) == 1 && PQpipelineStatus(c) == PQ_PIPELINE_ON);
	for (int i = 0; i < 3; i++)
		CHECK(PQsendQueryParams(c, "select 7", 0, NULL, NULL, NULL, NULL, 0) == 1);
	CHECK(PQpipelineSync(c) == 1);
	for (int i = 0; i < 3; i++)
	{
		r = PQgetResult(c);
		CHECK_OK(c, r, PGRES_TUPLES_OK);
		PQclear(r);
		CHECK(PQgetResult(c) == NULL);
	}
	r = PQgetResult(c);
	CHECK_OK(c, r, PGRES_PIPELINE_SYNC);
	PQclear(r);
	CHECK(PQexitPipelineMode(c) == 1);
}
#else
#define pipelines(c) ((void) 0)
#endif

static void
asynchronous(PGconn *c)
{
	PGresult   *r;
	int			rows = 0;

	CHECK(PQsetnonblocking(c, 1) == 0 && PQisnonblocking(c) == 1);
	CHECK(PQsendQuery(c, "select generate_series(1, 1000)") == 1);
	CHECK(PQsetSingleRowMode(c) == 1);
	for (;;)
	{
		while (PQflush(c) == 1 || PQisBusy(c))
		{
			struct pollfd p = {.fd = PQsocket(c), .events = POLLIN};

			CHECK(poll(&p, 1, 10000) == 1);
			CHECK(PQconsumeInput(c) == 1);
		}
		r = PQgetResult(c);
		if (!r)
			break;
		rows += PQresultStatus(r) == PGRES_SINGLE_TUPLE;
		PQclear(r);
	}
	CHECK(rows == 1000);
	CHECK(PQsetnonblocking(c, 0) == 0);
}

static void
large_objects(PGconn *c)
{
	char		buffer[16] = "";
	Oid			oid;
	int			fd;

	PQclear(PQexec(c, "begin"));
	oid = lo_creat(c, 0x60000);
	CHECK(oid != 0);
	fd = lo_open(c, oid, 0x60000);
	CHECK(fd >= 0 && lo_write(c, fd, "0123456789", 10) == 10);
	CHECK(lo_lseek64(c, fd, 5, SEEK_SET) == 5 && lo_read(c, fd, buffer, 5) == 5 && !strcmp(buffer, "56789"));
	CHECK(lo_tell64(c, fd) == 10 && lo_truncate(c, fd, 3) == 0 && lo_close(c, fd) == 0 && lo_unlink(c, oid) == 1);
	PQclear(PQexec(c, "commit"));
}

static void
cancelling(PGconn *c)
{
	char		error[256];
	PGcancel   *cancel = PQgetCancel(c);
	PGresult   *r;

	CHECK(cancel && PQsendQuery(c, "select pg_sleep(60)") == 1);
	do							/* one that comes before the query cancels nothing, and nothing tells when it has come */
	{
		struct pollfd p = {.fd = PQsocket(c), .events = POLLIN};

		CHECK(PQcancel(cancel, error, sizeof error) == 1);
		poll(&p, 1, 100);
		CHECK(PQconsumeInput(c) == 1);
	}
	while (PQisBusy(c));
	r = PQgetResult(c);
	CHECK_OK(c, r, PGRES_FATAL_ERROR);
	CHECK(!strcmp(PQresultErrorField(r, PG_DIAG_SQLSTATE), "57014"));
	PQclear(r);
	CHECK(PQgetResult(c) == NULL);
	PQfreeCancel(cancel);
}

static void
the_rest(PGconn *c, const char *conninfo)
{
	char	   *s = PQescapeLiteral(c, "it's", 4);
	char	   *text = NULL;
	size_t		size;
	FILE	   *trace = open_memstream(&text, &size);
	PQconninfoOption *options = PQconninfo(c);
	PQconninfoOption *given = PQconninfoParse(conninfo, NULL);

	CHECK(!strcmp(s, "'it''s'"));
	PQfreemem(s);
	s = PQencryptPasswordConn(c, "secret", "me", "scram-sha-256");
	CHECK(s && !strncmp(s, "SCRAM-SHA-256$", 14));
	PQfreemem(s);
	CHECK(PQserverVersion(c) >= 130000 && PQprotocolVersion(c) == 3 && PQclientEncoding(c) >= 0);
	CHECK(PQparameterStatus(c, "server_version") && !PQparameterStatus(c, "conmgr.version"));
	CHECK(PQsetClientEncoding(c, "LATIN1") == 0 && !strcmp(pg_encoding_to_char(PQclientEncoding(c)), "LATIN1"));
	CHECK(PQsslInUse(c) == (PQgetssl(c) != NULL));
	if (PQsslInUse(c))
		CHECK(PQsslAttribute(c, "protocol") != NULL);
	PQtrace(c, trace);
	PQsetTraceFlags(c, PQTRACE_SUPPRESS_TIMESTAMPS);
	PQclear(PQexec(c, "select 1"));
	PQuntrace(c);
	fclose(trace);
	CHECK(strstr(text, "select 1"));
	free(text);
	for (PQconninfoOption *g = given; g->keyword; g++)
		for (PQconninfoOption *o = options; g->val && o->keyword; o++)
			if (!strcmp(g->keyword, o->keyword) && strcmp(g->keyword, "service") != 0 && strcmp(g->keyword, "sslmode") != 0)
				CHECK(o->val && !strcmp(o->val, g->val));
	PQconninfoFree(options);
	PQconninfoFree(given);
	CHECK(PQping(conninfo) == PQPING_OK);
	CHECK(!strcmp(PQresStatus(PGRES_TUPLES_OK), pgresStatus[PGRES_TUPLES_OK]));
	PQreset(c);
	CHECK(PQstatus(c) == CONNECTION_OK);
	PQclear(PQexec(c, "do $$ begin raise notice 'hello'; end $$"));
	CHECK(notices == 2);		/* the processor has stayed */
}

int
main(int argc, char **argv)
{
	PGconn	   *c;

	CHECK(argc == 2);
	c = must_connect(argv[1]);
	CHECK(!*PQerrorMessage(c));
	queries(c);
	copies(c);
	messages(c);
	pipelines(c);
	asynchronous(c);
	large_objects(c);
	cancelling(c);
	the_rest(c, argv[1]);
	printf("host=%s port=%s socket=%s\n", PQhost(c), PQport(c), PQcmSocket && PQcmSocket(c) >= 0 ? "yes" : "no");
	PQfinish(c);
	return 0;
}
