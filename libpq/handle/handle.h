/*
 * handle.h: the highest layer of the front: what an application holds and
 * calls. The front has libpq's ABI and stands before the real one: an
 * application's PGconn * is a Front of ours around a Connection. This layer
 * knows connect/ and wire/, and nobody knows it.
 *
 * - The handle (handle.c), and the functions that connect (api.c).
 * - All other functions of libpq: forwarders that libpq/gen writes from
 *   functions.list, with a look for a loss afterwards (loss.c); event
 *   procedures (events.c) and hooks (hooks.c) that get the handle, and not
 *   the real connection; what the real libpq lacks (older.c), or what cannot
 *   be forwarded (expbuffer.c).
 *
 * A PGconn * here is either: a handle of ours, or a real one that an inner
 * call of libpq's gives back to the front (base/real.c).
 *
 * A handle is used by one thread at a time, as a PGconn is. What all handles
 * share has a lock where it is: procs (events.c), amended (loss.c); the hooks
 * are atomics. No lock is held while another one is taken.
 */
#ifndef HANDLE_H
#define HANDLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include "base/real.h"
#include "base/text.h"
#include "connect/connect.h"
#include "libpq-cm.h"
#include "wire/wire.h"

#define EXPORT __attribute__((visibility("default")))

/* No pointer: a real PGconn starts with one. */
#define FRONT_MAGIC UINT64_C(0xC99A11E57EDB10C5)

typedef struct FrontEvent
{
	PGEventProc proc;
	PGEventProc thunk;
	char	   *name;
	void	   *pass_through;
} FrontEvent;

/*
 * The fields by phase, all of the thread that uses the handle; those of
 * connecting are in c (connect.h).
 */
typedef struct Front
{
	uint64_t	magic;			/* 0: closed */
	Connection	c;

	/* in every phase */
	const char *lacks;			/* function last called that the real libpq
								 * does not have; NULL: none (older.c) */
	FrontEvent *events;			/* registered (events.c) */
	int			nevents;

	/* connecting again (api.c) */
	bool		resetting;		/* PQresetStart() has begun it */

	/* lost (loss.c) */
	bool		ended;			/* it was found to be */
	Text		loss;			/* what was lost and why; empty: nothing that
								 * we know of */
	Text		shown;			/* last PQerrorMessage, made of libpq's and
								 * loss */
} Front;

static inline Front *
front_of(const PGconn *conn)
{
	Front	   *f = (Front *) conn;

	return f && f->magic == FRONT_MAGIC ? f : NULL;
}

static inline const PGconn *
sql_of(const PGconn *conn)
{
	Front	   *f = front_of(conn);

	return f ? f->c.sql : conn;
}

/* The handle that a Connection is in. */
static inline Front *
front_around(Connection *c)
{
	return (Front *) ((char *) c - offsetof(Front, c));
}

/* ---- handle.c ---- */
Front	   *front_new(void);
void		front_disconnect(Front *f);

/* ---- older.c ---- */
void		front_lacks(const PGconn *conn, const char *function);
const char *lacks_message(const char *function);

/* ---- events.c ---- */
bool		events_carry(Connection *c, PGconn *to);
void		events_fire_reset(Front *f);
void		events_free(Front *f);

/* ---- loss.c ---- */
void		front_adopt(Front *f);
void		front_look(Front *f);
PGresult   *front_amend(Front *f, PGresult *r);

/* ---- what each forwarder does ---- */

/* Is there something to look at: a watch, or a failure that was shown? */
static inline bool
front_is_special(const Front *f)
{
	return __builtin_expect(f->c.watch || f->c.phase != PH_DONE, 0);
}

static inline void
front_before(Front *f)
{
	f->lacks = NULL;
	if (__builtin_expect(f->c.forks != fork_count, 0))
		front_adopt(f);
}

static inline void
front_after(Front *f)
{
	if (front_is_special(f))
		front_look(f);
}

static inline PGresult *
front_after_result(Front *f, PGresult *r)
{
	if (front_is_special(f))
	{
		front_look(f);
		if (f->loss.len)
			return front_amend(f, r);
	}
	return r;
}

#endif							/* HANDLE_H */
