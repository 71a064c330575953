/*
 * connect.c: making a connection, host by host of the list, as a state machine that never blocks (but for looking up names, as libpq).
 * Run by the application's thread that connects.
 *
 *   PROBE    only on this host (a loopback address, a Unix socket), for a user
 *            who wants more than conmgr has (TLS ...): is it a conmgr? No secret
 *            is sent.
 *   STAGE1   the real libpq connects, to a conmgr or to a server.
 *   CHECK    a server, and target_session_attrs must be asked of it.
 *   ASK      a conmgr: SHOW TARGET.
 *   STAGE2   the real libpq connects to the instance that conmgr named, with the user's own parameters.
 *
 * Each step either goes on at once (AGAIN) or waits for the socket. This file has the list and the machine, stage1.c and stage2.c the steps.
 */
#include "front.h"
#include "steps.h"

#include <time.h>

bool
front_connecting(const Front *f)
{
	return f->phase != PH_DONE && f->phase != PH_FAILED;
}

const Host *
current_host(const Front *f)
{
	return &f->options.hosts[f->order[f->host]];
}

/* ---- the list ---- */

Step
next_host(Front *f)
{
	forget_addresses(f);
	front_leave_conmgr(f);
	f->host++;
	if (f->host == f->options.nhosts)
	{
		if (f->options.target != TARGET_PREFER_STANDBY || f->pass > 0)
		{
			f->host--;			/* the one that was tried last */
			return FAILED;
		}
		f->pass++;
		f->host = 0;
	}
	f->restarts = 0;
	f->skip_probe = false;
	return start_host(f);
}

static bool
wants_probe(const Options *o, const Host *h)
{
	if (host_is_tcp(h))
		return o->strict && host_is_loopback(h);
	return o->strict_locally && h->host;
}

Step
start_host(Front *f)
{
	const Host *h = current_host(f);

	f->attempt++;
	f->reached = f->rejected = f->invalid = f->old_protocol = false;
	text_cut(&f->except, 0);
	f->refusals = 0;
	if (!f->skip_probe && !for_console(f) && wants_probe(&f->options, h))
	{
		tried_set(f, h->host, h->hostaddr, h->port);
		f->link = link_open(h, &f->options);
		if (f->link)
		{
			f->phase = PH_PROBE;
			return WRITE;
		}
	}
	return stage1_start(f);
}

/* ---- the machine ---- */

static PostgresPollingStatusType
finish(Front *f, bool connected)
{
	text_cut(&f->except, 0);
	forget_addresses(f);
	if (f->phase == PH_STAGE2)
		verbose_errors(f, false);	/* the application's own from here on */
	if (!connected)
	{
		front_leave_conmgr(f);
		if (f->options.nhosts > 0)
			tried_show(f);
		f->phase = PH_FAILED;
		f->special = true;
		return PGRES_POLLING_FAILED;
	}
	text_free(&f->err);
	tried_free(f);
	f->phase = PH_DONE;
	f->special = f->watch != NULL;
	f->ended = false;
	return PGRES_POLLING_OK;
}

static PostgresPollingStatusType
drive(Front *f, Step step)
{
	for (;;)
	{
		switch (step)
		{
			case READ:
				return PGRES_POLLING_READING;
			case WRITE:
				return PGRES_POLLING_WRITING;
			case DONE:
				return finish(f, true);
			case FAILED:
				return finish(f, false);
			case AGAIN:
				break;
		}
		switch (f->phase)
		{
			case PH_PROBE:
				step = probe(f);
				break;
			case PH_STAGE1:
				step = stage1(f);
				break;
			case PH_CHECK:
				step = check(f);
				break;
			case PH_ASK:
				step = answer(f);
				break;
			case PH_STAGE2:
				step = stage2(f);
				break;
			default:
				return f->phase == PH_DONE && real.PQstatus(f->sql) == CONNECTION_OK ? PGRES_POLLING_OK : PGRES_POLLING_FAILED;
		}
	}
}

/* load_balance_hosts=random: the hosts in any order. */
static bool
make_order(Front *f)
{
	unsigned	seed = (unsigned) (uintptr_t) f ^ (unsigned) time(NULL);
	int			n = f->options.nhosts;

	free(f->order);
	f->order = calloc((size_t) n, sizeof *f->order);
	if (!f->order)
		return false;
	for (int i = 0; i < n; i++)
		f->order[i] = i;
	for (int i = n - 1; i > 0 && f->options.random; i--)
	{
		int			j = rand_r(&seed) % (i + 1);
		int			k = f->order[i];

		f->order[i] = f->order[j];
		f->order[j] = k;
	}
	return true;
}

PostgresPollingStatusType
connect_start(Front *f)
{
	Text		conninfo = {0};

	f->forks = fork_count;
	f->pass = 0;
	f->host = -1;
	f->attempt = 0;
	f->reached = f->rejected = false;
	if (f->options.nhosts == 0)
	{
		host_conninfo(f, NULL, false, &conninfo);
		if (start_real(f, &conninfo))
			text_add(&f->err, real.PQerrorMessage(f->sql));
		return finish(f, false);
	}
	if (!make_order(f))
	{
		text_add(&f->err, "out of memory\n");
		return finish(f, false);
	}
	return drive(f, next_host(f));
}

PostgresPollingStatusType
connect_poll(Front *f)
{
	return drive(f, AGAIN);
}

/* connect_timeout is over for this host. */
PostgresPollingStatusType
connect_timed_out(Front *f)
{
	if (f->phase == PH_PROBE || f->phase == PH_ASK)
		conmgr_failed(f, "could not receive server address from Connection Manager: ", "timeout expired\n");
	else
	{
		char		sqlstate[6];

		tried_verbose_message(f, sqlstate);
		text_add(&f->err, "timeout expired\n");
		if (f->phase != PH_STAGE2 && later_address(f))
		{
			f->attempt++;
			return drive(f, stage1_start(f));
		}
	}
	return drive(f, next_host(f));
}

/* The application has a reason of its own, in f->err. */
void
connect_give_up(Front *f)
{
	finish(f, false);
}
