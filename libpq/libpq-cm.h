/*
 * libpq-cm.h: what the Connection Manager adds to libpq-fe.h. Everything else
 * of libpq stays as it is documented.
 *
 * Link with `pkg-config --cflags --libs libpq-cm`. A program that does not use
 * these two needs no rebuild: it is enough that it finds the front as
 * libpq.so.5 (LD_LIBRARY_PATH, rpath or LD_PRELOAD).
 */
#ifndef LIBPQ_CM_H
#define LIBPQ_CM_H

#include <libpq-fe.h>

#ifdef __cplusplus
extern "C"
{
#endif

/*
 * PQstatus() while an asynchronous connection waits for the answer of the
 * Connection Manager. The number lies far behind those of ConnStatusType, so
 * that libpq can go on adding to it.
 */
#define CONNECTION_AWAITING_CMRESPONSE ((ConnStatusType) 1000)

/*
 * The socket to the Connection Manager; -1 if the connection was made without
 * one. It becomes readable when the instance is lost: call PQconsumeInput() or
 * PQgetResult() as usual then, and never read it. Calls that send fail from
 * then on, and send nothing. It stays the same until PQfinish() or PQreset().
 */
extern int	PQcmSocket(const PGconn *conn);

#ifdef __cplusplus
}
#endif

#endif							/* LIBPQ_CM_H */
