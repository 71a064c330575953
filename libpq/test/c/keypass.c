/*
 * keypass.c: a hook that gives the password of a client's key is called with the program's own handle. Usage: keypass password conninfo
 * A password of "-": the hook leaves it to libpq's own, which takes sslpassword of the conninfo.
 */
#include "check.h"

static PGconn *handle;
static const char *password;
static int	calls;

static int
hook(char *buf, int size, PGconn *conn)
{
	CHECK(conn == handle && PQstatus(conn) != CONNECTION_OK);
	calls++;
	if (!strcmp(password, "-"))
		return PQdefaultSSLKeyPassHook_OpenSSL(buf, size, conn);
	return snprintf(buf, (size_t) size, "%s", password);
}

int
main(int argc, char **argv)
{
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;

	CHECK(argc == 3);
	password = argv[1];
	CHECK(PQgetSSLKeyPassHook_OpenSSL() == NULL);
	PQsetSSLKeyPassHook_OpenSSL(hook);
	CHECK(PQgetSSLKeyPassHook_OpenSSL() == hook);
	handle = PQconnectStart(argv[2]);
	while (s == PGRES_POLLING_READING || s == PGRES_POLLING_WRITING)
		s = PQconnectPoll(handle);
	printf("%s asked %s\n", s == PGRES_POLLING_OK ? "connected" : PQerrorMessage(handle), calls ? "yes" : "no");
	PQfinish(handle);

	/* and without it */
	PQsetSSLKeyPassHook_OpenSSL(NULL);
	CHECK(PQgetSSLKeyPassHook_OpenSSL() == NULL);
	calls = 0;
	handle = PQconnectdb(argv[2]);
	printf("then %s asked %s\n", PQstatus(handle) == CONNECTION_OK ? "connected" : "failed", calls ? "yes" : "no");
	PQfinish(handle);
	return 0;
}
