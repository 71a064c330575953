/*
 * connect.c: making a connection, host by host of the list, as a state
 * machine that never blocks (but for looking up names, as libpq). Run by the
 * application's thread that connects.
 *
 *   PROBE    only on this host (a loopback address, a Unix socket), for a
 *            user who wants more than conmgr has (TLS ...): is it a conmgr?
 *            No secret is sent. Or this process knows one there (known.c):
 *            it is asked at once.
 *   STAGE1   the real libpq connects, to a conmgr or to a server.
 *   CHECK    a server, and target_session_attrs must be asked of it.
 *   ASK      a conmgr: SHOW TARGET.
 *   STAGE2   the real libpq connects to the instance that conmgr named, with
 *            the user's own parameters.
 *
 * A list is gone through once without waiting, and where that leads nowhere,
 * once more for those conmgrs that can wait for an instance (wait.c).
 *
 * This file has the list and the machine, and goes from step to step as the
 * steps (stage1.c, stage2.c) say.
 */
#include "steps.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

bool
is_connecting(const Connection *c)
{
	return c->phase != PH_DONE && c->phase != PH_FAILED;
}

/* ---- the list ---- */

/* The next one of a pass; nhosts: none. */
static int
host_behind(const Connection *c, int host)
{
	do
		host++;
	while (host < c->options.nhosts && c->waiting &&
		   c->options.nhosts > 1 && !c->waits[host]);
	return host;
}

/*
 * Nobody is waited for as long as another host may do: a pass of its own
 * waits, at those that had no instance, and may get one. What they have said
 * they are going to say again.
 */
static int
begin_waiting(Connection *c)
{
	int			n = 0;

	if (c->waiting)
		return c->options.nhosts;
	c->waiting = true;
	for (int i = 0; i < c->options.nhosts; i++)
		n += c->waits[i];
	if (n == c->options.nhosts)
		text_cut(&c->err, 0);
	return host_behind(c, -1);
}

static Step
next_host(Connection *c)
{
	int			host = host_behind(c, c->host);

	forget_addresses(c);
	leave_conmgr(c);
	if (host == c->options.nhosts)
	{
		if (c->options.target == TARGET_PREFER_STANDBY && c->pass == 0)
		{
			c->pass++;
			host = 0;
		}
		else
			host = begin_waiting(c);
		if (host == c->options.nhosts)
			return FAILED;		/* c->host is the one that was tried last */
	}
	c->host = host;
	c->restarts = 0;
	c->began = monotonic_ms();
	c->err_before = c->err.len;
	return ANEW;
}

static bool
wants_probe(const Options *o, const Host *h)
{
	if (host_is_tcp(h))
		return o->strict && host_is_loopback(h);
	return o->strict_locally && h->host;
}

static Step
start_host(Connection *c)
{
	const Host *h = current_host(c);
	Offers		expected;

	c->attempt++;
	c->reached = c->rejected = c->invalid = c->old_protocol = false;
	c->plain = false;
	text_cut(&c->except, 0);
	c->refusals = 0;
	if (for_console(c))
		return STAGE1;
	if (wants_probe(&c->options, h))
		return probe_start(c, NULL) ? WRITE : STAGE1;
	if (c->restarts == 0 && is_known(c, &expected) &&
		probe_start(c, &expected))
		return WRITE;
	return STAGE1;
}

/* ---- the machine ---- */

static PostgresPollingStatusType
finish(Connection *c, bool connected)
{
	text_cut(&c->except, 0);
	forget_addresses(c);
	if (c->phase == PH_STAGE2)
		verbose_errors(c, false);	/* the application's own from here on */
	if (!connected)
	{
		leave_conmgr(c);
		if (c->tried.silence && c->err.len + c->err.broken == 0)
			tried_silently(c);
		if (c->options.nhosts > 0)
			tried_show(c);
		c->phase = PH_FAILED;
		return PGRES_POLLING_FAILED;
	}
	text_free(&c->err);
	tried_free(c);
	c->phase = PH_DONE;
	return PGRES_POLLING_OK;
}

/* The step of the phase. */
static Step
go_on(Connection *c)
{
	switch (c->phase)
	{
		case PH_PROBE:
			return probe(c);
		case PH_STAGE1:
			return stage1(c);
		case PH_CHECK:
			return check(c);
		case PH_ASK:
			return answer(c);
		case PH_STAGE2:
			return stage2(c);
		default:
			return FAILED;
	}
}

static PostgresPollingStatusType
drive(Connection *c, Step step)
{
	for (;;)
		switch (step)
		{
			case READ:
				return PGRES_POLLING_READING;
			case WRITE:
				return PGRES_POLLING_WRITING;
			case DONE:
				return finish(c, true);
			case FAILED:
				return finish(c, false);
			case STAGE1:
				step = stage1_start(c);
				break;
			case ASK:
				step = ask(c);
				break;
			case ANEW:
				step = start_host(c);
				break;
			case NEXT:
				step = next_host(c);
				break;
			case AGAIN:
				step = go_on(c);
				break;
		}
}

/* load_balance_hosts=random: the hosts in any order. */
static bool
make_order(Connection *c)
{
	unsigned	seed = (unsigned) (uintptr_t) c ^ (unsigned) time(NULL);
	int			n = c->options.nhosts;

	free(c->order);
	free(c->waits);
	c->order = calloc((size_t) n, sizeof *c->order);
	c->waits = calloc((size_t) n, sizeof *c->waits);
	if (!c->order || !c->waits)
		return false;
	for (int i = 0; i < n; i++)
		c->order[i] = i;
	for (int i = n - 1; i > 0 && c->options.random; i--)
	{
		int			j = rand_r(&seed) % (i + 1);
		int			k = c->order[i];

		c->order[i] = c->order[j];
		c->order[j] = k;
	}
	return true;
}

PostgresPollingStatusType
connect_start(Connection *c)
{
	Text		conninfo = {0};

	c->forks = fork_count;
	c->pass = 0;
	c->host = -1;
	c->attempt = 0;
	c->waiting = c->options.nhosts == 1;
	c->wait_began = 0;
	c->reached = c->rejected = false;
	if (c->options.nhosts == 0)
	{
		host_conninfo(c, NULL, false, &conninfo);
		if (start_real(c, &conninfo))
			text_add(&c->err, real.PQerrorMessage(c->sql));
		return finish(c, false);
	}
	if (!make_order(c))
	{
		text_add(&c->err, "out of memory\n");
		return finish(c, false);
	}
	return drive(c, NEXT);
}

/* Of a connection that is made, or failed, it says that. */
PostgresPollingStatusType
connect_poll(Connection *c)
{
	if (is_connecting(c))
		return drive(c, AGAIN);
	return c->phase == PH_DONE && real.PQstatus(c->sql) == CONNECTION_OK ?
		PGRES_POLLING_OK : PGRES_POLLING_FAILED;
}

/* connect_timeout is over for this host. */
PostgresPollingStatusType
connect_timed_out(Connection *c)
{
	if (c->phase == PH_PROBE || c->phase == PH_ASK)
		conmgr_failed(c, "could not receive server address from "
					  "Connection Manager: ", "timeout expired\n");
	else
	{
		char		sqlstate[6];

		tried_verbose_message(c, sqlstate);
		text_add(&c->err, "timeout expired\n");
		if (c->phase != PH_STAGE2 && later_address(c))
		{
			c->attempt++;
			c->began = monotonic_ms();
			return drive(c, STAGE1);
		}
	}
	return drive(c, NEXT);
}

/* Who holds it has a reason of its own, in c->err. */
void
connect_give_up(Connection *c)
{
	finish(c, false);
}

/* ---- beginning and ending ---- */

void
connection_init(Connection *c, bool (*carry_events) (Connection *, PGconn *))
{
	memset(c, 0, sizeof *c);
	c->phase = PH_FAILED;
	c->forks = fork_count;
	c->carry_events = carry_events;
	c->settings.verbosity = PQERRORS_DEFAULT;
}

/*
 * Its first real connection: the one that failed on an error of the string,
 * with libpq's message, or NULL. False: out of memory.
 */
bool
connection_begin(Connection *c, PGconn *failed)
{
	if (failed)
	{
		c->sql = failed;
		text_add(&c->err, real.PQerrorMessage(failed));
		return true;
	}
	c->sql = real_blank();
	c->blank = true;
	return c->sql != NULL;
}

/* Back to one that is not connected, with its options and settings. */
void
connection_disconnect(Connection *c)
{
	bool		quietly = ends_quietly(c);

	if (is_connecting(c))
		connect_give_up(c);
	leave_conmgr(c);
	c->settings.nonblocking = false;	/* as libpq does */
	(void) replace_sql(c, real_blank(), quietly);
	c->blank = true;
	tried_free(c);
	c->forks = fork_count;
	c->phase = PH_FAILED;
	text_free(&c->err);
}

/* The real connection tells the event procedures that it ends. */
void
connection_end(Connection *c)
{
	bool		quietly = ends_quietly(c);

	if (is_connecting(c))
		connect_give_up(c);
	leave_conmgr(c);
	real_finish(c->sql, quietly);
	options_free(&c->options);
	text_free(&c->err);
	text_free(&c->except);
	tried_free(c);
	free(c->order);
	free(c->waits);
}
