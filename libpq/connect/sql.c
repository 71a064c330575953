/*
 * sql.c: the real connection of a Connection, and the one to conmgr: how they
 * are replaced and how they end. Run by the application's threads; blocks on
 * PQfinish() alone, as libpq's does.
 */
#include "steps.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * A real connection that is none: what there is as long as there is nothing
 * better. A user is named so that none is looked up.
 */
PGconn *
real_blank(void)
{
	return real.PQconnectStart("host='0,0,0' hostaddr='0,0' user='nobody'");
}

/* It was made or last used by another process than this one: the parent. */
static bool
inherited(const Connection *c)
{
	return c->forks != fork_count;
}

/*
 * By way of conmgr, a child that ends what it has inherited leaves its
 * parent's session alone. Without one, the session ends, as libpq has it.
 * To be asked before the link ends.
 */
bool
ends_quietly(const Connection *c)
{
	return inherited(c) && c->link;
}

/*
 * Quietly: a child ends what is its parent's. libpq would tell the server
 * that the session is over; with another file in the place of the socket it
 * tells nobody.
 */
void
real_finish(PGconn *real_conn, bool quietly)
{
	if (real_conn && quietly && real.PQsocket(real_conn) >= 0)
	{
		int			nothing = eventfd(0, EFD_CLOEXEC);

		if (nothing >= 0)
		{
			dup3(nothing, real.PQsocket(real_conn), O_CLOEXEC);
			close(nothing);
		}
	}
	if (real_conn)
		real.PQfinish(real_conn);
}

/* The application does not see it end. */
static void
finish_unseen(Connection *c, PGconn *real_conn, bool quietly)
{
	c->quiet = true;
	real_finish(real_conn, quietly);
	c->quiet = false;
}

/*
 * Takes over what the application has set. False: out of memory, and it has
 * ended.
 */
static bool
carry(Connection *c, PGconn *to)
{
	const Settings *s = &c->settings;
	bool		ok;

	if (s->receiver_set)
		real.PQsetNoticeReceiver(to, s->receiver, s->receiver_arg);
	if (s->processor_set)
		real.PQsetNoticeProcessor(to, s->processor, s->processor_arg);
	if (s->verbosity_set)
		real.PQsetErrorVerbosity(to, s->verbosity);
	if (s->context_set)
		real.PQsetErrorContextVisibility(to, s->context);
	if (s->trace)
	{
		real.PQtrace(to, s->trace);
		real.PQsetTraceFlags(to, s->trace_flags);
	}
	if (s->nonblocking)
		real.PQsetnonblocking(to, 1);
	c->quiet = true;
	ok = c->carry_events(c, to);
	c->quiet = false;
	if (!ok)
		finish_unseen(c, to, false);
	return ok;
}

/*
 * Replaces the real connection; the one before ends. A NULL stands for one
 * that memory did not suffice for. False: out of memory, and the one before
 * stays.
 */
bool
replace_sql(Connection *c, PGconn *real_conn, bool quietly)
{
	PGconn	   *old = c->sql;

	if (!real_conn || !carry(c, real_conn))
		return false;
	c->sql = real_conn;
	finish_unseen(c, old, quietly);
	return true;
}

/* Where conmgr's Unix socket is: the host as given, or libpq's own default. */
const char *
conmgr_directory(const Connection *c)
{
	const Host *h = current_host(c);
	const char *used = c->conmgr ? real.PQhost(c->conmgr) : NULL;

	return h->host ? h->host : used ? used : "";
}

static CmLink *
link_of(const Connection *c)
{
	static const char *const announced[] = {
		CM_FEATURES_PARAMETER, CM_TARGET_WAIT_PARAMETER, CM_GRACE_PARAMETER
	};
	Login		login = options_login(&c->options);
	Host		h = *current_host(c);
	CmLink	   *link;

	if (!host_is_tcp(&h))
		h.host = (char *) conmgr_directory(c);
	link = link_adopt(real.PQsocket(c->conmgr), &h, &login);
	for (size_t i = 0; link && i < sizeof announced / sizeof announced[0]; i++)
	{
		const char *value = real.PQparameterStatus(c->conmgr, announced[i]);

		if (value)
			link_announce(link, announced[i], value);
	}
	return link;
}

/*
 * What stage one connected to is a conmgr: it becomes the link. False: out of
 * memory; leave_conmgr() ends it then, as ever.
 */
bool
adopt_conmgr(Connection *c)
{
	PGconn	   *blank = real_blank();
	PGconn	   *old = c->sql;

	if (!blank || !carry(c, blank))
		return false;
	c->sql = blank;
	c->blank = true;
	if (c->settings.trace)
		real.PQuntrace(old);
	c->conmgr = old;
	c->link = link_of(c);
	return c->link != NULL;
}

void
leave_conmgr(Connection *c)
{
	bool		quietly = inherited(c);

	watch_end(c->watch);
	c->watch = NULL;
	link_close(c->link, quietly);
	finish_unseen(c, c->conmgr, quietly);
	c->link = NULL;
	c->conmgr = NULL;
}
