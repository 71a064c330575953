/*
 * real.h: the installed ("real") libpq, opened by its path: its types, and
 * its functions as real.PQ*. A leaf for the layers that have a PGconn,
 * connect/ and handle/. Below handle/ a PGconn * is always a real one.
 */
#ifndef REAL_H
#define REAL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <libpq-fe.h>
#include <libpq-events.h>

#undef PQfreeNotify

/* Exported by libpq, but not in its public headers. */
typedef struct PQExpBufferData *PQExpBuffer;
typedef void (*pqsigfunc) (int signo);

/*
 * Newer than the headers of the build may be: all functions are forwarded,
 * whichever libpq is there at run time.
 */
#ifndef LIBPQ_HAS_PIPELINING	/* 14 */
typedef unsigned PGpipelineStatus;
#endif
#ifndef LIBPQ_HAS_ASYNC_CANCEL	/* 17 */
typedef struct pg_cancel_conn PGcancelConn;
#endif
#ifndef LIBPQ_HAS_SOCKET_POLL	/* 17 */
typedef int64_t pg_usec_time_t;
#endif
#ifndef LIBPQ_HAS_PROMPT_OAUTH_DEVICE	/* 18 */
typedef unsigned PGauthData;
typedef int (*PQauthDataHook_type) (PGauthData type, PGconn *conn, void *data);
#endif

#include "functions.h"

typedef struct RealName
{
	const char *name;
	size_t		offset;
} RealName;

/*
 * Written once, at load. A function that the library lacks stays the one of
 * real_missing, which gives what functions.list says, and ENOSYS.
 */
extern RealLibpq real;
extern const RealLibpq real_missing;
extern const RealName real_names[];

/* Why the real libpq could not be loaded, or NULL. */
extern const char *real_problem;

#endif							/* REAL_H */
