/*
 * hooks.c: libpq's process-wide hooks, which the real libpq calls with a real
 * PGconn while it connects: the application's procedure gets its own handle,
 * and so do those that it leaves behind.
 * Run by the application's thread that connects; blocks on nothing but the
 * application's procedure.
 */
#include "handle.h"

#include <stdatomic.h>

static _Atomic(PQsslKeyPassHook_OpenSSL_type) key_hook;

/* Whose connection libpq makes. */
static PGconn *
handle_of(PGconn *conn)
{
	return connecting ? (PGconn *) front_around(connecting) : conn;
}

static int
key_relay(char *buf, int size, PGconn *conn)
{
	PQsslKeyPassHook_OpenSSL_type hook = atomic_load(&key_hook);

	/*
	 * During PQconnectStart the handle still holds the connection before this
	 * one; the key is loaded later, in PQconnectPoll.
	 */
	return hook ? hook(buf, size, handle_of(conn)) :
		real.PQdefaultSSLKeyPassHook_OpenSSL(buf, size, conn);
}

EXPORT void
PQsetSSLKeyPassHook_OpenSSL(PQsslKeyPassHook_OpenSSL_type hook)
{
	atomic_store(&key_hook, hook);
	real.PQsetSSLKeyPassHook_OpenSSL(hook ? key_relay : NULL);
}

EXPORT PQsslKeyPassHook_OpenSSL_type
PQgetSSLKeyPassHook_OpenSSL(void)
{
	return atomic_load(&key_hook);
}

static _Atomic(PQauthDataHook_type) auth_hook;

/*
 * A request for a bearer token: PGoauthBearerRequest of libpq 18, with which
 * that of 19 begins. The application leaves procedures in it that libpq calls
 * later, with the real connection.
 */
#define BEARER_TOKEN 1			/* PQAUTHDATA_OAUTH_BEARER_TOKEN */
#define BEARER_TOKEN_V2 2

typedef struct Bearer
{
	const char *configuration;
	const char *scope;
	PostgresPollingStatusType (*async) (PGconn *conn, struct Bearer *request,
										int *altsock);
	void		(*cleanup) (PGconn *conn, struct Bearer *request);
	char	   *token;
	void	   *user;
} Bearer;

/* What the application has left there; in its place stand ours. */
typedef struct BearerLeft
{
	Front	   *f;
	PostgresPollingStatusType (*async) (PGconn *conn, struct Bearer *request,
										int *altsock);
	void		(*cleanup) (PGconn *conn, struct Bearer *request);
	void	   *user;
} BearerLeft;

static PostgresPollingStatusType
bearer_async(PGconn *conn, Bearer *request, int *altsock)
{
	BearerLeft *left = request->user;
	PostgresPollingStatusType s;

	(void) conn;
	request->user = left->user;
	s = left->async((PGconn *) left->f, request, altsock);
	left->user = request->user;
	request->user = left;
	return s;
}

static void
bearer_cleanup(PGconn *conn, Bearer *request)
{
	BearerLeft *left = request->user;

	(void) conn;
	request->user = left->user;
	if (left->cleanup)
		left->cleanup((PGconn *) left->f, request);
	free(left);
}

/* False: out of memory; what the application has left is cleaned up. */
static bool
bearer_take(Front *f, Bearer *request)
{
	BearerLeft *left = malloc(sizeof *left);

	if (!left)
	{
		if (request->cleanup)
			request->cleanup((PGconn *) f, request);
		request->cleanup = NULL;
		return false;
	}
	left->f = f;
	left->async = request->async;
	left->cleanup = request->cleanup;
	left->user = request->user;
	request->async = left->async ? bearer_async : NULL;
	request->cleanup = bearer_cleanup;
	request->user = left;
	return true;
}

static int
auth_relay(PGauthData type, PGconn *conn, void *data)
{
	PQauthDataHook_type hook = atomic_load(&auth_hook);
	PGconn	   *handle = handle_of(conn);
	int			r;

	if (!hook)
		return real.PQdefaultAuthDataHook(type, conn, data);
	r = hook(type, handle, data);
	if (r != 0 && handle != conn &&
		((int) type == BEARER_TOKEN || (int) type == BEARER_TOKEN_V2) &&
		!bearer_take(front_of(handle), data))
		return -1;
	return r;
}

EXPORT void
PQsetAuthDataHook(PQauthDataHook_type hook)
{
	atomic_store(&auth_hook, hook);
	real.PQsetAuthDataHook(hook ? auth_relay : NULL);
}

EXPORT PQauthDataHook_type
PQgetAuthDataHook(void)
{
	PQauthDataHook_type hook = atomic_load(&auth_hook);

	return hook ? hook : real.PQgetAuthDataHook();
}
