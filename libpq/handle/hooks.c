/*
 * hooks.c: libpq's process-wide hooks, which the real libpq calls with a real
 * PGconn while it connects: the application's procedure gets its own handle.
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

static int
auth_relay(PGauthData type, PGconn *conn, void *data)
{
	PQauthDataHook_type hook = atomic_load(&auth_hook);

	return hook ? hook(type, handle_of(conn), data) :
		real.PQdefaultAuthDataHook(type, conn, data);
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
