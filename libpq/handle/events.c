/*
 * events.c: event procedures (libpq-events.h). Run by the application's
 * threads; block on nothing but the application's procedures.
 *
 * libpq calls a procedure with the real PGconn, and keys instance data by the
 * procedure's address. So each procedure of the application gets a thunk, a
 * function of its own that stands for it in the process for good; the thunk
 * puts the application's handle in. The handle is found through a procedure of
 * ours (marker) that is registered with each real connection, and only once
 * the application registers one.
 */
#include "handle.h"

#include <pthread.h>
#include <stdatomic.h>

#define THUNKS 64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Written once each, under the lock. */
static _Atomic(PGEventProc) procs[THUNKS];

static int
marker(PGEventId id, void *info, void *pass_through)
{
	(void) id;
	(void) info;
	(void) pass_through;
	return 1;
}

static int
relay(int number, PGEventId id, void *info, void *pass_through)
{
	PGEventProc proc = atomic_load(&procs[number]);
	PGconn	  **conn = info;	/* first member of every event that has one */

	if (id == PGEVT_REGISTER || id == PGEVT_CONNRESET ||
		id == PGEVT_CONNDESTROY || id == PGEVT_RESULTCREATE)
	{
		PGconn	   *real_conn = *conn;
		Front	   *f = real.PQinstanceData(real_conn, marker);
		int			ok;

		if (!f)
			return proc(id, info, pass_through);
		if (f->c.quiet && id != PGEVT_RESULTCREATE)
			return 1;
		*conn = (PGconn *) f;
		ok = proc(id, info, pass_through);
		*conn = real_conn;
		return ok;
	}
	return proc(id, info, pass_through);
}

#define THUNK(n) \
	static int \
	thunk##n(PGEventId id, void *info, void *pass) \
	{ \
		return relay(n - 100, id, info, pass); \
	}
#define TEN(m, d) \
	m(1##d##0) m(1##d##1) m(1##d##2) m(1##d##3) m(1##d##4) \
	m(1##d##5) m(1##d##6) m(1##d##7) m(1##d##8) m(1##d##9)
#define ALL(m) \
	TEN(m, 0) TEN(m, 1) TEN(m, 2) TEN(m, 3) TEN(m, 4) TEN(m, 5) \
	m(160) m(161) m(162) m(163)
#define NAME(n) thunk##n,

ALL(THUNK)
static const PGEventProc thunks[THUNKS] = {ALL(NAME)};

/*
 * The thunk of a procedure; NULL: it has none (and gets none), or there are
 * too many.
 */
static PGEventProc
thunk_of(PGEventProc proc, bool make)
{
	PGEventProc found = NULL;

	for (int i = 0; i < THUNKS; i++)
	{
		PGEventProc p = atomic_load(&procs[i]);

		if (p == proc)
			return thunks[i];
		if (!p)
			break;
	}
	if (!make)
		return NULL;
	pthread_mutex_lock(&lock);
	for (int i = 0; i < THUNKS && !found; i++)
	{
		PGEventProc p = atomic_load(&procs[i]);

		if (!p)
			atomic_store(&procs[i], proc);
		if (!p || p == proc)
			found = thunks[i];
	}
	pthread_mutex_unlock(&lock);
	return found;
}

static bool
mark(Front *f, PGconn *real_conn)
{
	if (real.PQinstanceData(real_conn, marker) == f)
		return true;
	return real.PQregisterEventProc(real_conn, marker, "connection manager",
									NULL) &&
		real.PQsetInstanceData(real_conn, marker, f);
}

EXPORT int
PQregisterEventProc(PGconn *conn, PGEventProc proc, const char *name,
					void *passThrough)
{
	Front	   *f = front_of(conn);
	FrontEvent *events;
	FrontEvent	e = {
		.proc = proc,
		.pass_through = passThrough
	};

	if (!f)
		return real.PQregisterEventProc(conn, proc, name, passThrough);
	if (!proc || !name || !*name || !(e.thunk = thunk_of(proc, true)) ||
		!mark(f, f->c.sql))
		return 0;
	events = realloc(f->events, ((size_t) f->nevents + 1) * sizeof *events);
	if (!events)
		return 0;
	f->events = events;
	e.name = strdup(name);
	if (!e.name ||
		!real.PQregisterEventProc(f->c.sql, e.thunk, name, passThrough))
	{
		free(e.name);
		return 0;
	}
	f->events[f->nevents++] = e;
	return 1;
}

EXPORT int
PQsetInstanceData(PGconn *conn, PGEventProc proc, void *data)
{
	Front	   *f = front_of(conn);
	PGEventProc thunk = f ? thunk_of(proc, false) : NULL;

	return real.PQsetInstanceData((PGconn *) sql_of(conn),
								  thunk ? thunk : proc, data);
}

EXPORT void *
PQinstanceData(const PGconn *conn, PGEventProc proc)
{
	Front	   *f = front_of(conn);
	PGEventProc thunk = f ? thunk_of(proc, false) : NULL;

	return real.PQinstanceData(sql_of(conn), thunk ? thunk : proc);
}

/* A result may be of a connection of ours or not: both keys are tried. */
EXPORT int
PQresultSetInstanceData(PGresult *result, PGEventProc proc, void *data)
{
	PGEventProc thunk = thunk_of(proc, false);

	return (thunk && real.PQresultSetInstanceData(result, thunk, data)) ||
		real.PQresultSetInstanceData(result, proc, data);
}

EXPORT void *
PQresultInstanceData(const PGresult *result, PGEventProc proc)
{
	PGEventProc thunk = thunk_of(proc, false);
	void	   *data = thunk ? real.PQresultInstanceData(result, thunk) : NULL;

	return data ? data : real.PQresultInstanceData(result, proc);
}

/*
 * Gives another real connection the events, and the instance data, of
 * f->c.sql. False: out of memory.
 */
bool
events_carry(Connection *c, PGconn *to)
{
	Front	   *f = front_around(c);
	bool		ok;

	if (f->nevents == 0)
		return true;
	ok = mark(f, to);
	for (int i = 0; ok && i < f->nevents; i++)
	{
		FrontEvent *e = &f->events[i];

		ok = real.PQregisterEventProc(to, e->thunk, e->name, e->pass_through);
		if (ok && c->sql)
			real.PQsetInstanceData(to, e->thunk,
								   real.PQinstanceData(c->sql, e->thunk));
	}
	return ok;
}

/* After a successful PQreset, as libpq does it. */
void
events_fire_reset(Front *f)
{
	for (int i = 0; i < f->nevents; i++)
	{
		PGEventConnReset event = {.conn = (PGconn *) f};

		f->events[i].proc(PGEVT_CONNRESET, &event, f->events[i].pass_through);
	}
}

void
events_free(Front *f)
{
	for (int i = 0; i < f->nevents; i++)
		free(f->events[i].name);
	free(f->events);
	f->events = NULL;
	f->nevents = 0;
}

/* A child must not inherit the lock from a thread that it does not have. */
static void
hold(void)
{
	pthread_mutex_lock(&lock);
}

static void
release(void)
{
	pthread_mutex_unlock(&lock);
}

static void events_load(void) __attribute__((constructor));

static void
events_load(void)
{
	pthread_atfork(hold, release, release);
}
