/*
 * params.c: connects, and tells what came of it: the protocol, and that a query can be cancelled in each way that there is.
 * Usage: params conninfo [token]. With a token, a procedure of the program gives it to a server that asks for OAuth: at once, or with a
 * + before it, after it has waited for a descriptor.
 */
#include "check.h"

#include <poll.h>
#include <sys/eventfd.h>

/* By other names, as the headers may or may not declare them; NULL without the front and with an old libpq. */
#define NEWER(declaration, name) extern declaration __asm__(name) __attribute__((weak))
NEWER(int full_version(PGconn *), "PQfullProtocolVersion");
NEWER(void *cancel_create(PGconn *), "PQcancelCreate");
NEWER(int cancel_blocking(void *), "PQcancelBlocking");
NEWER(char *cancel_message(void *), "PQcancelErrorMessage");
NEWER(void cancel_reset(void *), "PQcancelReset");
NEWER(void cancel_finish(void *), "PQcancelFinish");
NEWER(void set_auth_hook(void *), "PQsetAuthDataHook");

/* As in libpq-fe.h of 18. */
typedef struct Bearer
{
	const char *configuration;
	const char *scope;
	int			(*async) (PGconn *conn, struct Bearer *request, int *altsock);
	void		(*cleanup) (PGconn *conn, struct Bearer *request);
	char	   *token;
	void	   *user;
} Bearer;

static PGconn *made;
static char *token;
static int	waited;
static int	cleaned;

/* Ready when it is called for the second time, after the descriptor that it has given was found readable. */
static int
later(PGconn *conn, Bearer *request, int *altsock)
{
	CHECK(conn == made && request->user == token);
	if (*altsock < 0)
	{
		*altsock = eventfd(1, 0);
		return PGRES_POLLING_READING;
	}
	CHECK(PQsocket(conn) == *altsock);
	waited++;
	request->token = token;
	return PGRES_POLLING_OK;
}

static void
clean(PGconn *conn, Bearer *request)
{
	CHECK(conn == made && request->user == token);
	cleaned++;
}

static int
give_token(int type, PGconn *conn, void *data)
{
	Bearer	   *request = data;

	if (type != 1)				/* PQAUTHDATA_OAUTH_BEARER_TOKEN */
		return 0;
	CHECK(conn == made);
	request->user = token;
	request->cleanup = clean;
	if (*token == '+')
		request->async = later;
	else
		request->token = token;
	return 1;
}

/* By PQconnectPoll, so that the handle is known before anybody asks for a token. */
static void
connected(const char *conninfo)
{
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;

	made = PQconnectStart(conninfo);
	if (PQstatus(made) == CONNECTION_BAD)
		s = PGRES_POLLING_FAILED;
	while (s == PGRES_POLLING_READING || s == PGRES_POLLING_WRITING)
		s = PQconnectPoll(made);
	if (s == PGRES_POLLING_OK)
		return;
	printf("could not connect: %s", PQerrorMessage(made));
	PQfinish(made);
	exit(1);
}

/* A query that runs; the request may be there before it. */
static void
begin(void)
{
	CHECK(PQsendQuery(made, "select pg_sleep(30)"));
}

/* Has it ended, within 200 ms? */
static int
ended(void)
{
	struct pollfd p = {.fd = PQsocket(made), .events = POLLIN};

	poll(&p, 1, 200);
	CHECK(PQconsumeInput(made));
	return !PQisBusy(made);
}

/* With the error of a query that was cancelled. */
static void
cancelled(const char *how, int ok, const char *message)
{
	PGresult   *r = PQgetResult(made);
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	if (!ok || !state || strcmp(state, "57014") != 0)
		printf(" not %s: %d %s %s\n", how, ok, message, PQresultErrorMessage(r));
	else
		printf(" %s", how);
	PQclear(r);
	CHECK(!PQgetResult(made));
}

static void
by_cancel(void)
{
	PGcancel   *cancel = PQgetCancel(made);
	char		message[256] = "";
	int			ok;

	begin();
	do
		ok = PQcancel(cancel, message, sizeof message);
	while (ok && !ended());
	cancelled("cancelled", ok, message);
	PQfreeCancel(cancel);
}

static void
by_cancel_conn(void)
{
	void	   *c = cancel_create ? cancel_create(made) : NULL;
	int			ok;

	if (!c)
		return;
	begin();
	for (;;)
	{
		ok = cancel_blocking(c);
		if (!ok || ended())
			break;
		cancel_reset(c);
	}
	cancelled("again", ok, cancel_message(c));
	cancel_finish(c);
}

int
main(int argc, char **argv)
{
	CHECK(argc == 2 || argc == 3);
	if (argc == 3)
	{
		CHECK(set_auth_hook);
		token = argv[2];
		set_auth_hook(give_token);
	}
	connected(argv[1]);
	printf("connected port %s protocol %d", PQport(made), full_version ? full_version(made) : PQprotocolVersion(made) * 10000);
	if (argc == 3)
		printf(" waited %d", waited);
	else
	{
		by_cancel();
		by_cancel_conn();
	}
	PQfinish(made);
	if (argc == 3)
		printf(" cleaned %d", cleaned);
	printf("\n");
	return 0;
}
