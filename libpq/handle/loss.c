/*
 * loss.c: what an application sees of a lost instance: libpq's own error, and
 * after it what conmgr said. Run by the application's threads; blocks on
 * nothing.
 *
 * The watcher has shut the SQL socket down, so the call that waits on it, or
 * the next one that uses it, fails in libpq as it does when a server goes
 * away: PGRES_FATAL_ERROR without SQLSTATE (57P01 if the server could still
 * say so), then CONNECTION_BAD. Rows that had arrived before are still
 * delivered. The text of a PGresult cannot be changed from outside libpq: a
 * result of a lost connection is remembered with its longer text until
 * PQclear().
 */
#include "handle.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct Amended
{
	const PGresult *result;
	char	   *text;
	struct Amended *next;
} Amended;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Amended *amended;
static atomic_int namended;

/* In a child process that goes on to use a connection of its parent. */
void
front_adopt(Front *f)
{
	if (f->c.watch)
		watch_adopt(f->c.watch);
	f->c.forks = fork_count;
}

static void
compose_server(Front *f, const char *said)
{
	const char *host = real.PQhost(f->c.sql);
	const char *hostaddr = real.PQhostaddr(f->c.sql);
	bool		both = hostaddr && host && strcmp(host, hostaddr) != 0;

	text_addf(&f->loss, "lost the server at \"%s\"%s%s%s, port %s: %s\n",
			  host ? host : "", both ? " (" : "", both ? hostaddr : "",
			  both ? ")" : "", real.PQport(f->c.sql), said);
}

static void
compose_conmgr(Front *f, const char *said)
{
	const Host *h = current_host(&f->c);

	text_add(&f->loss, "lost the Connection Manager ");
	if (host_is_tcp(h))
		text_addf(&f->loss, "at \"%s\", port %s: ",
				  h->hostaddr ? h->hostaddr : h->host, host_port(h));
	else
		text_addf(&f->loss, "on socket \"%s/.s.PGSQL.%s\": ",
				  conmgr_directory(&f->c), host_port(h));
	text_addf(&f->loss, "%s\n", *said ? said :
			  "it closed the connection without a message");
}

static void
compose_loss(Front *f)
{
	const char *said = watch_said(f->c.watch);

	if (*said && !says_own_end(said))
		compose_server(f, said);
	else
		compose_conmgr(f, said);
}

/*
 * After each call that may have used the socket, of a connection made by way
 * of conmgr, or of one that was never made.
 */
void
front_look(Front *f)
{
	if (f->c.phase == PH_FAILED)
	{
		/* from here on the real libpq's "no connection to the server" */
		text_cut(&f->c.err, 0);
		return;
	}
	if (f->c.phase != PH_DONE || !f->c.watch || f->ended ||
		real.PQstatus(f->c.sql) != CONNECTION_BAD)
		return;
	f->ended = true;
	if (watch_look(f->c.watch))
		compose_loss(f);
	else
		watch_drop_sql(f->c.watch);
}

PGresult *
front_amend(Front *f, PGresult *r)
{
	Amended    *a;
	Text		whole = {0};
	const char *own;

	if (!r || real.PQresultStatus(r) != PGRES_FATAL_ERROR)
		return r;
	own = real.PQresultErrorMessage(r);
	text_add(&whole, own ? own : "");
	text_add(&whole, text_of(&f->loss));
	a = malloc(sizeof *a);
	if (!a || whole.broken)
	{
		free(a);
		text_free(&whole);
		return r;
	}
	a->result = r;
	a->text = whole.data;
	pthread_mutex_lock(&lock);
	a->next = amended;
	amended = a;
	atomic_fetch_add(&namended, 1);
	pthread_mutex_unlock(&lock);
	return r;
}

static Amended **
find(const PGresult *res)
{
	Amended   **a = &amended;

	while (*a && (*a)->result != res)
		a = &(*a)->next;
	return a;
}

EXPORT char *
PQresultErrorMessage(const PGresult *res)
{
	char	   *longer = NULL;

	if (res && atomic_load_explicit(&namended, memory_order_relaxed) > 0)
	{
		Amended    *a;

		pthread_mutex_lock(&lock);
		a = *find(res);
		if (a)
			longer = a->text;
		pthread_mutex_unlock(&lock);
	}
	return longer ? longer : real.PQresultErrorMessage(res);
}

EXPORT char *
PQresultVerboseErrorMessage(const PGresult *res, PGVerbosity verbosity,
							PGContextVisibility show_context)
{
	char	   *longer = PQresultErrorMessage(res);

	/* A result of a loss has no fields that a verbosity could show. */
	if (longer && longer != real.PQresultErrorMessage(res) &&
		!real.PQresultErrorField(res, PG_DIAG_SQLSTATE))
		return strdup(longer);
	return real.PQresultVerboseErrorMessage(res, verbosity, show_context);
}

EXPORT void
PQclear(PGresult *res)
{
	if (res && atomic_load_explicit(&namended, memory_order_relaxed) > 0)
	{
		Amended   **link;
		Amended    *a;

		pthread_mutex_lock(&lock);
		link = find(res);
		a = *link;
		if (a)
		{
			*link = a->next;
			atomic_fetch_sub(&namended, 1);
		}
		pthread_mutex_unlock(&lock);
		if (a)
		{
			free(a->text);
			free(a);
		}
	}
	real.PQclear(res);
}

/*
 * What an application calls that PQcmSocket() has woken: it may be for a
 * notice, of which a program that was made for 1.0 does not know. (With a
 * query under way it would call PQgetResult() anyway.)
 */
static void
woken(Front *f)
{
	if (f->c.watch)
		watch_used(f->c.watch);
}

EXPORT int
PQconsumeInput(PGconn *conn)
{
	Front	   *f = front_of(conn);
	int			ok;

	if (!f)
		return real.PQconsumeInput(conn);
	front_before(f);
	ok = real.PQconsumeInput(f->c.sql);
	woken(f);
	front_after(f);
	return ok;
}

EXPORT PGresult *
PQgetResult(PGconn *conn)
{
	Front	   *f = front_of(conn);
	PGresult   *r;

	if (!f)
		return real.PQgetResult(conn);
	front_before(f);
	if (real.PQtransactionStatus(f->c.sql) != PQTRANS_ACTIVE)
		woken(f);
	r = real.PQgetResult(f->c.sql);
	return front_after_result(f, r);
}

EXPORT char *
PQerrorMessage(const PGconn *conn)
{
	Front	   *f = front_of(conn);
	char	   *own;

	if (!f)
		return real.PQerrorMessage(conn);
	if (f->lacks)
		return (char *) lacks_message(f->lacks);
	if (f->c.phase != PH_DONE && f->c.err.len + f->c.err.broken > 0)
		return (char *) text_of(&f->c.err);
	if (f->c.blank && is_connecting(&f->c))
		return (char *) "";		/* nothing has failed yet */
	own = real.PQerrorMessage(f->c.sql);
	if (f->c.phase != PH_DONE || f->loss.len == 0 || !own)
		return own;
	text_cut(&f->shown, 0);
	text_add(&f->shown, own);
	text_add(&f->shown, text_of(&f->loss));
	return (char *) text_of(&f->shown);
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

static void loss_load(void) __attribute__((constructor));

static void
loss_load(void)
{
	pthread_atfork(hold, release, release);
}
