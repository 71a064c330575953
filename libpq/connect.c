/*
 * connect.c: making a connection, host by host of the list, as a state machine that never blocks (but for looking up names, as libpq).
 * Run by the application's thread that connects.
 *
 *   PROBE    only for a loopback address and a user who wants more than conmgr has (TLS ...): is it a conmgr? No secret is sent.
 *   STAGE1   the real libpq connects, to a conmgr or to a server.
 *   CHECK    a server, and target_session_attrs must be asked of it.
 *   ASK      a conmgr: SHOW TARGET.
 *   STAGE2   the real libpq connects to the instance that conmgr named, with the user's own parameters.
 *
 * Each step either goes on at once (AGAIN) or waits for the socket. The watcher has the connection from STAGE2 on: an instance that is
 * lost meanwhile wakes whoever waits.
 *
 * Whether a server's refusal ends the list or leads to the next host is for libpq to say, by rules that differ from version to version.
 * So stage one gives it two hosts, the second one with the impossible port 0: if libpq has gone on to that one, the front goes on.
 */
#include "front.h"

#include <sys/stat.h>
#include <time.h>

#define MAX_REFUSALS 64			/* instances of a conmgr that are tried for one connection */
#define MAX_RESTARTS 3			/* of a host, when the instance is lost while it is being connected to */

typedef enum Step
{
	AGAIN, READ, WRITE, DONE, FAILED
} Step;

__thread Front *connecting_front;

static Step start_host(Front *f);
static Step stage1_start(Front *f);

bool
front_connecting(const Front *f)
{
	return f->phase != PH_DONE && f->phase != PH_FAILED;
}

static const Host *
current(const Front *f)
{
	return &f->options.hosts[f->order[f->host]];
}

/* ---- the list ---- */

static Step
next_host(Front *f)
{
	front_leave_conmgr(f);
	f->host++;
	if (f->host == f->options.nhosts)
	{
		if (f->options.target != TARGET_PREFER_STANDBY || f->pass > 0)
			return FAILED;
		f->pass++;
		f->host = 0;
	}
	f->restarts = 0;
	f->skip_probe = false;
	return start_host(f);
}

static Step
start_host(Front *f)
{
	const Host *h = current(f);

	f->attempt++;
	text_cut(&f->except, 0);
	f->refusals = 0;
	if (f->options.strict && !f->skip_probe && host_is_loopback(h))
	{
		f->link = link_open(h, &f->options);
		if (f->link)
		{
			f->phase = PH_PROBE;
			return WRITE;
		}
	}
	return stage1_start(f);
}

/* The user's parameters for one host, or for the whole list if it does not fit together. */
static void
host_conninfo(const Front *f, const Host *h, bool bogus, Text *out)
{
	const Options *o = &f->options;

	options_conninfo(o, out);
	if (h)
	{
		Text		host = {0};
		Text		hostaddr = {0};
		Text		port = {0};

		text_addf(&host, "%s%s", h->host ? h->host : "", bogus && (h->host || !h->hostaddr) ? ",none" : "");
		text_addf(&hostaddr, "%s%s", h->hostaddr ? h->hostaddr : "", bogus && h->hostaddr ? ",127.0.0.1" : "");
		text_addf(&port, "%s%s", h->port ? h->port : "", bogus ? ",0" : "");
		text_add_conninfo(out, "host", text_of(&host));
		text_add_conninfo(out, "hostaddr", text_of(&hostaddr));
		text_add_conninfo(out, "port", text_of(&port));
		out->broken |= host.broken || hostaddr.broken || port.broken;
		text_free(&host);
		text_free(&hostaddr);
		text_free(&port);
	}
	else
	{
		if (o->host)
			text_add_conninfo(out, "host", o->host);
		if (o->hostaddr)
			text_add_conninfo(out, "hostaddr", o->hostaddr);
		if (o->port)
			text_add_conninfo(out, "port", o->port);
	}
	text_add_conninfo(out, "target_session_attrs", o->odd_target ? o->target_session_attrs : "any");
	if (o->load_balance_hosts)
		text_add_conninfo(out, "load_balance_hosts", o->load_balance_hosts);
}

/* Starts a real connection and makes it the handle's. */
static bool
start_real(Front *f, Text *conninfo)
{
	PGconn	   *conn;

	connecting_front = f;
	conn = conninfo->broken ? NULL : real.PQconnectStart(conninfo->data);
	connecting_front = NULL;
	text_free(conninfo);
	f->reached = false;
	if (conn)
		front_set_sql(f, conn);
	else
		text_add(&f->err, "out of memory\n");
	return conn != NULL;
}

/* ---- stage one ---- */

/* Takes libpq's message over, without its complaint about the second host, which is the last line. */
static Step
stage1_failed(Front *f)
{
	const char *message = real.PQerrorMessage(f->sql);
	const char *port = real.PQport(f->sql);
	size_t		len = strlen(message);
	bool		on = f->options.random;

	if (f->bogus_host && port && !strcmp(port, "0"))
	{
		on = true;
		if (len > 0)
			len--;
		while (len > 0 && message[len - 1] != '\n')
			len--;
	}
	text_addn(&f->err, message, len);
	return on ? next_host(f) : FAILED;
}

static Step
stage1_start(Front *f)
{
	Text		conninfo = {0};

	f->phase = PH_STAGE1;
	f->bogus_host = !f->options.random;
	host_conninfo(f, current(f), f->bogus_host, &conninfo);
	if (!start_real(f, &conninfo))
		return FAILED;
	return real.PQstatus(f->sql) == CONNECTION_BAD ? stage1_failed(f) : WRITE;
}

static Step
ask(Front *f)
{
	f->phase = PH_ASK;
	link_ask(f->link, target_name(f), text_of(&f->except));
	return AGAIN;
}

static Step
stage1_connected(Front *f)
{
	PGconn	   *conmgr;

	if (!real.PQparameterStatus(f->sql, "conmgr.version"))
	{
		switch (target_suits(f, &f->err))
		{
			case SUITS:
				return DONE;
			case SUITS_NOT:
				return next_host(f);
			case SUITS_ASK:
				break;
		}
		f->phase = PH_CHECK;
		if (target_ask(f))
			return READ;
		text_add(&f->err, real.PQerrorMessage(f->sql));
		return FAILED;
	}
	f->reached = false;
	conmgr = front_take_sql(f);
	if (conmgr && (f->link = link_adopt(conmgr)))
		return ask(f);
	if (conmgr)
		real_finish(conmgr, false);
	text_add(&f->err, "out of memory\n");
	return FAILED;
}

static Step
stage1(Front *f)
{
	PostgresPollingStatusType s;

	f->reached |= real.PQstatus(f->sql) == CONNECTION_AWAITING_RESPONSE;
	connecting_front = f;
	s = real.PQconnectPoll(f->sql);
	connecting_front = NULL;
	switch (s)
	{
		case PGRES_POLLING_READING:
			return READ;
		case PGRES_POLLING_WRITING:
			return WRITE;
		case PGRES_POLLING_OK:
			return stage1_connected(f);
		default:
			return stage1_failed(f);
	}
}

static Step
probe(Front *f)
{
	switch (link_step(f->link))
	{
		case LINK_READ:
			return READ;
		case LINK_WRITE:
			return WRITE;
		case LINK_READY:
			return ask(f);
		default:
			break;
	}
	front_leave_conmgr(f);
	return stage1_start(f);
}

static Step
check(Front *f)
{
	Suits		answer = SUITS_NOT;

	switch (target_poll(f, &answer, &f->err))
	{
		case PGRES_POLLING_READING:
			return READ;
		case PGRES_POLLING_OK:
			return answer == SUITS ? DONE : next_host(f);
		default:
			return FAILED;
	}
}

/* ---- stage two ---- */

static void
conmgr_failed(Front *f, const char *what, const char *why)
{
	const Host *h = current(f);

	text_addf(&f->err, "connection to server at \"%s\", port %s failed: %s%s", h->host ? h->host : h->hostaddr,
			  h->port ? h->port : "5432", what, why);
}

/* Keeps an eye on the socket that the real libpq uses now: it may have opened another one. */
static bool
follow(Front *f, const char **problem)
{
	int			fd = real.PQsocket(f->sql);
	struct stat s;

	*problem = NULL;
	if (fd < 0 || fstat(fd, &s) < 0)
		return true;
	if (!f->watch)
		f->watch = watch_start(f->link->fd, fd, problem);
	else if (s.st_ino != f->watched_inode && !watch_move(f->watch, fd))
		*problem = "out of descriptors";
	f->watched_inode = s.st_ino;
	return !*problem;
}

static Step
unwatched(Front *f, const char *problem)
{
	server_identity(f->sql, &f->err);
	text_addf(&f->err, "could not watch the connection to the Connection Manager: %s\n", problem);
	return FAILED;
}

/* An instance's name is a number; another name goes as a literal. */
static void
add_except(Front *f, const char *instance)
{
	bool		quoted = instance[0] == '\0' || instance[strspn(instance, "0123456789")] != '\0';

	text_addf(&f->except, "%s%s", f->except.len ? ", " : "", quoted ? "'" : "");
	for (const char *p = instance; *p; p++)
		text_addn(&f->except, *p == '\'' ? "''" : p, *p == '\'' ? 2 : 1);
	text_add(&f->except, quoted ? "'" : "");
}

static Step
refused(Front *f)
{
	text_add(&f->err, real.PQerrorMessage(f->sql));
	if (f->watch && watch_look(f->watch))
	{
		const char *said = watch_said(f->watch);

		/* conmgr knows by now that this instance is lost, or has ended itself: begin with this host again */
		text_addf(&f->err, "%s\n", *said ? said : "the Connection Manager closed the connection");
		front_leave_conmgr(f);
		f->attempt--;
		return f->restarts++ < MAX_RESTARTS ? start_host(f) : next_host(f);
	}
	watch_end(f->watch);
	f->watch = NULL;
	if (real.PQconnectionNeedsPassword(f->sql))
		return FAILED;			/* the application may ask its user and come back */
	if (++f->refusals > MAX_REFUSALS)
		return next_host(f);
	add_except(f, f->link->target.instance);
	return ask(f);
}

static Step
stage2_start(Front *f)
{
	const CmTarget *t = &f->link->target;
	Text		conninfo = {0};
	const char *problem;

	f->phase = PH_STAGE2;
	f->bogus_host = false;
	options_conninfo(&f->options, &conninfo);
	text_add_conninfo(&conninfo, "host", t->host);
	text_add_conninfo(&conninfo, "hostaddr", t->hostaddr);
	text_add_conninfo(&conninfo, "port", t->port);
	text_add_conninfo(&conninfo, "target_session_attrs", "any");
	if (!start_real(f, &conninfo))
		return FAILED;
	if (real.PQstatus(f->sql) == CONNECTION_BAD)
		return refused(f);
	return follow(f, &problem) ? WRITE : unwatched(f, problem);
}

static Step
answer(Front *f)
{
	bool		sending = f->link->state == LS_SENDING;

	switch (link_step(f->link))
	{
		case LINK_READ:
			return READ;
		case LINK_WRITE:
			return WRITE;
		case LINK_TARGET:
			return stage2_start(f);
		case LINK_NO_TARGET:
			if (f->refusals == 0)
				conmgr_failed(f, "", text_of(&f->link->error));
			break;
		default:
			conmgr_failed(f, sending ? "could not get server address from Connection Manager: " :
						  "could not receive server address from Connection Manager: ", text_of(&f->link->error));
			break;
	}
	return next_host(f);
}

static Step
stage2(Front *f)
{
	PostgresPollingStatusType s;
	const char *problem;

	f->reached |= real.PQstatus(f->sql) == CONNECTION_AWAITING_RESPONSE;
	connecting_front = f;
	s = real.PQconnectPoll(f->sql);
	connecting_front = NULL;
	if (s == PGRES_POLLING_FAILED)
		return refused(f);
	if (!follow(f, &problem))
		return unwatched(f, problem);
	if (s != PGRES_POLLING_OK)
		return s == PGRES_POLLING_READING ? READ : WRITE;
	return watch_look(f->watch) ? refused(f) : DONE;
}

/* ---- the machine ---- */

static PostgresPollingStatusType
finish(Front *f, bool connected)
{
	text_cut(&f->except, 0);
	if (!connected)
	{
		front_leave_conmgr(f);
		f->phase = PH_FAILED;
		f->special = true;
		return PGRES_POLLING_FAILED;
	}
	text_free(&f->err);
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
	f->reached = false;
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
		text_add(&f->err, real.PQerrorMessage(f->sql));
		text_add(&f->err, "timeout expired\n");
	}
	return drive(f, next_host(f));
}
