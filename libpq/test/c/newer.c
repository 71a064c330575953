/*
 * newer.c: a program that is linked with the newest libpq, and runs with the installed one. Usage: newer conninfo /path/to/installed/libpq.so.5
 * What the installed libpq does not have fails when it is called, and says so. It is linked with a libpq that is nothing but names.
 */
#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>

/* By other names, as the headers may or may not declare them. */
extern int	used_gssapi(PGconn *) __asm__("PQconnectionUsedGSSAPI");
extern int	chunked(PGconn *, int) __asm__("PQsetChunkedRowsMode");
extern int	pipeline_sync(PGconn *) __asm__("PQsendPipelineSync");
extern int	send_close(PGconn *, const char *) __asm__("PQsendClosePrepared");
extern PGresult *close_prepared(PGconn *, const char *) __asm__("PQclosePrepared");
extern PGresult *close_portal(PGconn *, const char *) __asm__("PQclosePortal");
extern PGresult *change_password(PGconn *, const char *, const char *) __asm__("PQchangePassword");
extern void *cancel_create(PGconn *) __asm__("PQcancelCreate");
extern int	cancel_blocking(void *) __asm__("PQcancelBlocking");
extern int	cancel_start(void *) __asm__("PQcancelStart");
extern int	cancel_poll(void *) __asm__("PQcancelPoll");
extern int	cancel_status(void *) __asm__("PQcancelStatus");
extern int	cancel_socket(void *) __asm__("PQcancelSocket");
extern char *cancel_message(void *) __asm__("PQcancelErrorMessage");
extern void cancel_reset(void *) __asm__("PQcancelReset");
extern void cancel_finish(void *) __asm__("PQcancelFinish");
extern int	socket_poll(int, int, int, long) __asm__("PQsocketPoll");
extern long now_us(void) __asm__("PQgetCurrentTimeUSec");
extern void set_auth_hook(void *) __asm__("PQsetAuthDataHook");
extern void *get_auth_hook(void) __asm__("PQgetAuthDataHook");
extern int	default_auth_hook(int, PGconn *, void *) __asm__("PQdefaultAuthDataHook");
extern int	full_version(PGconn *) __asm__("PQfullProtocolVersion");
extern void *thread_lock(void) __asm__("PQgetThreadLock");
extern int	mblen_bounded(const char *, int) __asm__("PQmblenBounded");
extern bool append_va(void *, const char *, va_list) __asm__("appendPQExpBufferVA");
extern void *create_buffer(void) __asm__("createPQExpBuffer");
extern void destroy_buffer(void *) __asm__("destroyPQExpBuffer");

static void *installed;
static PGconn *c;
static int	lacking;

static bool
has(const char *function)
{
	errno = 0;
	return dlsym(installed, function) != NULL;
}

/* The call that was just made said that there is no such function, and the connection is as good as before. */
static void
lacks(const char *function)
{
	char		wanted[128];
	PGresult   *r;

	CHECK(errno == ENOSYS);
	snprintf(wanted, sizeof wanted, "does not have %s()\n", function);
	if (!strstr(PQerrorMessage(c), wanted))
		printf("after %s: %s\n", function, PQerrorMessage(c));
	r = PQexec(c, "select 1");
	CHECK_OK(c, r, PGRES_TUPLES_OK);
	CHECK(!strstr(PQerrorMessage(c), "does not have"));
	PQclear(r);
	lacking++;
}

#define LACKS(function, call, gives) \
	do { \
		if (!has(function)) \
		{ \
			CHECK((call) == (gives)); \
			lacks(function); \
		} \
	} while (0)

static void
format(void *buffer, const char *fmt, ...)
{
	va_list		args;
	bool		done;

	va_start(args, fmt);
	done = append_va(buffer, fmt, args);
	va_end(args);
	CHECK(done);
}

int
main(int argc, char **argv)
{
	void	   *buffer = create_buffer();

	CHECK(argc == 3);
	installed = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
	CHECK(installed);
	c = must_connect(argv[1]);
	LACKS("PQconnectionUsedGSSAPI", used_gssapi(c), 0);
	LACKS("PQsetChunkedRowsMode", chunked(c, 10), 0);
	LACKS("PQsendPipelineSync", pipeline_sync(c), 0);
	LACKS("PQsendClosePrepared", send_close(c, "p"), 0);
	LACKS("PQclosePrepared", close_prepared(c, "p"), NULL);
	LACKS("PQclosePortal", close_portal(c, "p"), NULL);
	LACKS("PQchangePassword", change_password(c, "a", "b"), NULL);
	LACKS("PQcancelCreate", cancel_create(c), NULL);
	LACKS("PQdefaultAuthDataHook", default_auth_hook(0, c, NULL), 0);
	if (!has("PQcancelCreate"))
	{
		/* what psql does with the NULL */
		CHECK(cancel_blocking(NULL) == 0 && cancel_start(NULL) == 0 && cancel_poll(NULL) == PGRES_POLLING_FAILED);
		CHECK(cancel_status(NULL) == CONNECTION_BAD && cancel_socket(NULL) == -1);
		CHECK(strstr(cancel_message(NULL), "does not have PQcancelCreate()"));
		cancel_reset(NULL);
		cancel_finish(NULL);
	}
	if (!has("PQsocketPoll"))
		CHECK(socket_poll(0, 1, 0, -1) == -1 && errno == ENOSYS);
	if (!has("PQsetAuthDataHook"))
		set_auth_hook(NULL);
	if (!has("PQgetAuthDataHook"))
		CHECK(get_auth_hook() == NULL);
	if (!has("PQgetThreadLock"))
		CHECK(thread_lock() == NULL && errno == ENOSYS);

	/* these are as good as the newest */
	CHECK(full_version(c) == 30000);
	CHECK(mblen_bounded("\xc3\xa4", 6) == 2 && mblen_bounded("\xc3", 6) == 1 && mblen_bounded("", 6) == 0);
	CHECK(now_us() > 1700000000000000);
	format(buffer, "%s %d", "a", 1);
	CHECK(!strcmp(*(char **) buffer, "a 1"));
	destroy_buffer(buffer);
	PQfinish(c);
	printf("ok, %d lacking\n", lacking);
	return 0;
}
