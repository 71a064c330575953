/*
 * libpq-cm.h: what the Connection Manager adds to libpq-fe.h. Everything else
 * of libpq stays as it is documented.
 *
 * Link with `pkg-config --cflags --libs libpq-cm`. A program that does not use
 * these needs no rebuild: it is enough that it finds the front as
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
 * A descriptor for poll() and the like, by which the Connection Manager speaks;
 * -1 if the connection was made without one. It is readable for good when the
 * instance is lost: call PQconsumeInput() or PQgetResult() as usual then, and
 * never read it. Calls that send fail from then on, and send nothing. It is
 * readable, too, when PQcmDraining() has become true, until that has been
 * called. It stays the same until PQfinish() or PQreset().
 */
extern int	PQcmSocket(const PGconn *conn);

/*
 * 1 when the Connection Manager wants the connection to be given up: its
 * server is about to be taken out of service, or is not what was asked for any
 * more. It goes on working; finish it between two transactions, and make
 * another one. 0 otherwise, also when that was taken back. Costs about a
 * system call.
 */
extern int	PQcmDraining(const PGconn *conn);

#ifdef __cplusplus
}
#endif

#endif							/* LIBPQ_CM_H */
