/*
 * stage2.c: asking conmgr for an instance, and connecting to that. Run by the
 * application's thread that connects; blocks as trust.c and options_verify()
 * do, on looking up a user or a file.
 *
 * The watcher has the connection from here on: an instance that is lost while
 * it is being connected to wakes whoever waits.
 */
#include "steps.h"

#include <string.h>
#include <sys/stat.h>

/* Instances of a conmgr that are tried for one connection. */
#define MAX_REFUSALS 64

/*
 * Of a host, when the instance is lost while it is being connected to, or
 * conmgr ends while it is waited for.
 */
#define MAX_RESTARTS 3

/* False: what calls itself a conmgr there is not believed. */
bool
conmgr_trusted(Connection *c)
{
	Demands		demands = {
		.local = !host_is_tcp(current_host(c)),
		.requirepeer = options_get(&c->options, "requirepeer"),
		.verifies = options_verify(&c->options)
	};
	Text		why = {0};
	bool		trusted = link_is_trusted(c->link, &demands, &why);

	if (!trusted)
		conmgr_failed(c, "", text_of(&why));
	text_free(&why);
	return trusted;
}

void
put_question(Connection *c)
{
	Question	question = {
		.attribute = target_name(c),
		.except = text_of(&c->except)
	};
	Text		wait = {0};

	if (c->refusals == 0)
		snprintf(c->tried.address, sizeof c->tried.address, "%s",
				 link_peer(c->link));
	if (wait_text(c, &wait))
		question.wait = text_of(&wait);
	link_ask(c->link, &question);
	text_free(&wait);
}

Step
ask(Connection *c)
{
	if (!conmgr_trusted(c))
		return NEXT;
	make_known(c, link_offers(c->link));
	c->phase = PH_ASK;
	put_question(c);
	return AGAIN;
}

void
conmgr_failed(Connection *c, const char *what, const char *why)
{
	const Host *h = current_host(c);

	if (host_is_tcp(h))
		text_addf(&c->err,
				  "connection to server at \"%s\", port %s failed: ",
				  h->host ? h->host : h->hostaddr, host_port(h));
	else
		text_addf(&c->err, "connection to server on socket "
				  "\"%s/.s.PGSQL.%s\" failed: ", conmgr_directory(c),
				  host_port(h));
	text_add(&c->err, what);
	text_add(&c->err, why);
}

/*
 * Keeps an eye on the socket that the real libpq uses now: it may have opened
 * another one.
 */
static bool
follow(Connection *c, const char **problem)
{
	int			fd = real.PQsocket(c->sql);
	struct stat s;

	*problem = NULL;
	if (fd < 0 || fstat(fd, &s) < 0)
		return true;
	if (!c->watch)
		c->watch = watch_start(c->link, fd, problem);
	else if (s.st_ino != c->watched_inode && !watch_move(c->watch, fd))
		*problem = "out of descriptors";
	c->watched_inode = s.st_ino;
	return !*problem;
}

static Step
unwatched(Connection *c, const char *problem)
{
	server_identity(c->sql, &c->err);
	text_addf(&c->err, "could not watch the connection to the "
			  "Connection Manager: %s\n", problem);
	return FAILED;
}

/* An instance's name is a number; another name goes as a literal. */
static void
add_name(Text *out, const char *instance)
{
	bool		quoted = instance[0] == '\0' ||
		instance[strspn(instance, "0123456789")] != '\0';

	if (out->len)
		text_add(out, ", ");
	if (quoted)
		text_add_literal(out, instance);
	else
		text_add(out, instance);
}

/* Is it one of those that refused? */
static bool
excepted(const Connection *c, const char *instance)
{
	Text		name = {0};
	const char *list = text_of(&c->except);
	bool		found = false;

	add_name(&name, instance);
	for (const char *p = list; !found && (p = strstr(p, text_of(&name))); p++)
		found = (p == list || p[-1] == ' ') &&
			(p[name.len] == '\0' || p[name.len] == ',');
	text_free(&name);
	return found;
}

/*
 * Another instance may do better where this one could not be reached, starts,
 * shuts down or has no room. By libpq's rules a refusal of the user ends the
 * attempt: elsewhere it would be the same one, and count as one more.
 */
static bool
another_may_do(const Connection *c, const char *sqlstate)
{
	return tried_goes_on(c) || !strncmp(sqlstate, "53", 2) ||
		!strncmp(sqlstate, "57P", 3);
}

/*
 * conmgr knows by now that the instance is lost, or has ended itself, and
 * cannot be asked for another: begin with this host again.
 */
static Step
lost_meanwhile(Connection *c)
{
	leave_conmgr(c);
	c->attempt--;				/* connect_timeout does not begin anew */
	return c->restarts++ < MAX_RESTARTS ? ANEW : NEXT;
}

static Step
refused(Connection *c)
{
	size_t		before = c->err.len;
	char		sqlstate[6] = "";

	tried_verbose_message(c, sqlstate);
	verbose_errors(c, false);
	if (c->watch && (watch_look(c->watch) || watch_is_away(c->watch)))
	{
		const char *said = watch_said(c->watch);

		text_addf(&c->err, "%s\n", *said ? said :
				  "the Connection Manager closed the connection");
		return lost_meanwhile(c);
	}
	watch_end(c->watch);
	c->watch = NULL;

	/* a pooler in the server's place, which takes no option that it does
	 * not know */
	if (c->labelled && !strcmp(sqlstate, CM_PROTOCOL_VIOLATION))
	{
		c->plain = true;
		text_cut(&c->err, before);
		return ASK;
	}
	if (real.PQconnectionNeedsPassword(c->sql) || !another_may_do(c, sqlstate))
		return FAILED;			/* the application may ask its user and come
								 * back */
	if (++c->refusals > MAX_REFUSALS)
		return NEXT;
	add_name(&c->except, link_target(c->link)->instance);
	return ASK;
}

static Step
stage2_start(Connection *c)
{
	const CmTarget *t = link_target(c->link);
	Text		conninfo = {0};
	const char *problem;

	if (excepted(c, t->instance))
	{
		conmgr_failed(c, "the Connection Manager names an instance again "
					  "that refused", "\n");
		return NEXT;
	}
	c->phase = PH_STAGE2;
	c->bogus_host = true;
	tried_set(c, t->host, t->hostaddr, t->port);
	options_conninfo(&c->options, &conninfo);
	c->labelled = t->client && *t->client && !c->plain;
	if (c->labelled)
		options_labelled(&c->options, t->client, &conninfo);
	add_host(&conninfo, t->host, t->hostaddr, t->port, true);
	text_add_conninfo(&conninfo, "target_session_attrs", CM_ANY);
	if (c->options.load_balance_hosts)
		text_add_conninfo(&conninfo, "load_balance_hosts", "disable");
	if (!start_real(c, &conninfo))
		return FAILED;
	verbose_errors(c, true);
	if (real.PQstatus(c->sql) == CONNECTION_BAD)
		return refused(c);
	return follow(c, &problem) ? WRITE : unwatched(c, problem);
}

/* A target that is believed. */
static Step
named(Connection *c)
{
	Text		why = {0};

	if (target_is_sound(link_target(c->link), &why))
		return stage2_start(c);
	conmgr_failed(c, "could not receive server address from "
				  "Connection Manager: ", text_of(&why));
	text_free(&why);
	return NEXT;
}

/* No instance has the attribute now. */
static Step
none(Connection *c)
{
	if (c->waiting && c->refusals > 0 && wait_left(c) > 0)
	{
		/* who has refused may do by now: all of them once more */
		text_cut(&c->except, 0);
		text_cut(&c->err, c->err_before);
		c->refusals = 0;
		return ASK;
	}
	c->waits[c->host] = wait_left(c) != 0;
	return NEXT;
}

/*
 * conmgr ends. Who waits for an instance may have the next one at once, at the
 * same place: it keeps its ports when it is restarted. That one is asked for
 * what is left of the time.
 */
static Step
next_conmgr(Connection *c)
{
	if (!c->waiting || wait_left(c) <= 0 || c->restarts++ >= MAX_RESTARTS)
		return NEXT;
	leave_conmgr(c);
	text_cut(&c->err, c->err_before);
	c->attempt--;				/* connect_timeout does not begin anew */
	return ANEW;
}

Step
answer(Connection *c)
{
	bool		sending = link_is_sending(c->link);

	switch (link_step(c->link))
	{
		case LINK_READ:
			return READ;
		case LINK_WRITE:
			return WRITE;
		case LINK_TARGET:
			return named(c);
		case LINK_NO_TARGET:
			c->rejected = link_shuts_down(c->link);
			if (c->refusals == 0)
				conmgr_failed(c, "", link_error(c->link));
			if (link_has_none(c->link))
				return none(c);
			if (c->rejected)
				return next_conmgr(c);
			break;
		default:
			conmgr_failed(c, sending ?
						  "could not get server address from "
						  "Connection Manager: " :
						  "could not receive server address from "
						  "Connection Manager: ", link_error(c->link));
			/* the instance that has refused, and is asked to be left out */
			if (link_tells_of_loss(c->link))
				return lost_meanwhile(c);
			return sending ? NEXT : next_conmgr(c);
	}
	return NEXT;
}

Step
stage2(Connection *c)
{
	PostgresPollingStatusType s = real_step(c);
	const char *problem;

	if (s == PGRES_POLLING_FAILED)
		return refused(c);
	if (!follow(c, &problem))
		return unwatched(c, problem);
	if (s != PGRES_POLLING_OK)
		return s == PGRES_POLLING_READING ? READ : WRITE;
	return watch_look(c->watch) ? refused(c) : DONE;
}
