/*
 * settings.c: what is set while connecting holds for the connection that is made in the end, and after a reset as libpq has it.
 * Usage: settings conninfo
 */
#define _GNU_SOURCE
#include "check.h"

static void
receive(void *arg, const PGresult *r)
{
	printf("%s got: %s", (char *) arg, PQresultErrorMessage(r));
}

static void
show(PGconn *c, const char *when)
{
	static char name[32];
	PGresult   *r;
	char	   *text;

	snprintf(name, sizeof name, "%s", when);
	CHECK(PQsetNoticeReceiver(c, NULL, NULL) == receive);
	r = PQexec(c, "select 1/0");
	printf("%s: nonblocking %d error: %s", when, PQisnonblocking(c), PQresultErrorMessage(r));
	text = PQresultVerboseErrorMessage(r, PQERRORS_TERSE, PQSHOW_CONTEXT_NEVER);
	printf("terse: %s", text);
	PQfreemem(text);
	PQclear(r);
	PQclear(PQexec(c, "do $$ begin raise notice 'hello'; end $$"));
}

/* With the flag that was set, where there is one. */
static int
traced(const char *text, size_t size)
{
#ifdef LIBPQ_HAS_TRACE_FLAGS
	const char	wanted[] = "\nF\t15\tQuery\t \"select 1/0\"";
#else
	const char	wanted[] = "\"select 1/0\"";	/* among bytes as they are */
#endif

	return memmem(text, size, wanted, sizeof wanted - 1) != NULL;
}

int
main(int argc, char **argv)
{
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;
	PGconn	   *c = PQconnectStart(argv[1]);
	char	   *text = NULL;
	size_t		size;
	FILE	   *trace = open_memstream(&text, &size);
	char		who[] = "receiver";

	CHECK(argc == 2);
	CHECK(PQsetNoticeReceiver(c, receive, who) != NULL);
	CHECK(PQsetErrorVerbosity(c, PQERRORS_VERBOSE) == PQERRORS_DEFAULT);
	CHECK(PQsetErrorContextVisibility(c, PQSHOW_CONTEXT_ALWAYS) == PQSHOW_CONTEXT_ERRORS);
	CHECK(PQsetnonblocking(c, 1) == 0);
	while (s == PGRES_POLLING_READING || s == PGRES_POLLING_WRITING)
		s = PQconnectPoll(c);
	CHECK(s == PGRES_POLLING_OK);
	show(c, "connected");
	PQtrace(c, trace);
	PQsetTraceFlags(c, PQTRACE_SUPPRESS_TIMESTAMPS);
	PQreset(c);
	show(c, "reset");
	PQuntrace(c);
	PQclear(PQexec(c, "select 'not traced'"));
	fclose(trace);
	printf("traced: %d %d\n", traced(text, size), strstr(text, "not traced") != NULL);
	CHECK(PQsetErrorVerbosity(c, PQERRORS_DEFAULT) == PQERRORS_VERBOSE);
	CHECK(PQsetErrorContextVisibility(c, PQSHOW_CONTEXT_ERRORS) == PQSHOW_CONTEXT_ALWAYS);
	PQfinish(c);
	free(text);
	return 0;
}
