/*
 * stage2.c: asking conmgr for an instance, and connecting to that. Run by the application's thread that connects; never blocks.
 *
 * The watcher has the connection from here on: an instance that is lost while it is being connected to wakes whoever waits.
 */
#include "front.h"
#include "steps.h"

#include <sys/socket.h>
#include <sys/stat.h>

#define MAX_REFUSALS 64			/* instances of a conmgr that are tried for one connection */
#define MAX_RESTARTS 3			/* of a host, when the instance is lost while it is being connected to */

Step
ask(Front *f)
{
	struct sockaddr_storage peer;
	socklen_t	len = sizeof peer;
	Text		why = {0};

	if (!f->link->trusted && !conmgr_is_trusted(f, &why))
	{
		conmgr_failed(f, "", text_of(&why));
		text_free(&why);
		return next_host(f);
	}
	f->link->trusted = true;
	f->phase = PH_ASK;
	if (!f->link->peer[0] && host_is_tcp(current_host(f)) &&
		getpeername(f->link->fd, (struct sockaddr *) &peer, &len) == 0)
		address_text((struct sockaddr *) &peer, len, f->link->peer, sizeof f->link->peer);
	if (f->refusals == 0)
		snprintf(f->tried.address, sizeof f->tried.address, "%s", f->link->peer);
	link_ask(f->link, target_name(f), text_of(&f->except));
	return AGAIN;
}

void
conmgr_failed(Front *f, const char *what, const char *why)
{
	const Host *h = current_host(f);

	if (host_is_tcp(h))
		text_addf(&f->err, "connection to server at \"%s\", port %s failed: ",
				  h->host ? h->host : h->hostaddr, h->port ? h->port : "5432");
	else
		text_addf(&f->err, "connection to server on socket "
				  "\"%s/.s.PGSQL.%s\" failed: ", link_directory(f->link, h),
				  h->port ? h->port : "5432");
	text_add(&f->err, what);
	text_add(&f->err, why);
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
add_name(Text *out, const char *instance)
{
	bool		quoted = instance[0] == '\0' || instance[strspn(instance, "0123456789")] != '\0';

	text_addf(out, "%s%s", out->len ? ", " : "", quoted ? "'" : "");
	for (const char *p = instance; *p; p++)
		text_addn(out, *p == '\'' ? "''" : p, *p == '\'' ? 2 : 1);
	text_add(out, quoted ? "'" : "");
}

/* Is it one of those that refused? */
static bool
excepted(const Front *f, const char *instance)
{
	Text		name = {0};
	const char *list = text_of(&f->except);
	bool		found = false;

	add_name(&name, instance);
	for (const char *p = list; !found && (p = strstr(p, text_of(&name))); p++)
		found = (p == list || p[-1] == ' ') && (p[name.len] == '\0' || p[name.len] == ',');
	text_free(&name);
	return found;
}

/*
 * Another instance may do better where this one could not be reached, starts, shuts down or has no room. By libpq's rules a refusal of
 * the user ends the attempt: elsewhere it would be the same one, and count as one more.
 */
static bool
another_may_do(const Front *f, const char *sqlstate)
{
	return tried_goes_on(f) || !strncmp(sqlstate, "53", 2) || !strncmp(sqlstate, "57P", 3);
}

static Step
refused(Front *f)
{
	char		sqlstate[6];

	tried_verbose_message(f, sqlstate);
	verbose_errors(f, false);
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
	if (real.PQconnectionNeedsPassword(f->sql) || !another_may_do(f, sqlstate))
		return FAILED;			/* the application may ask its user and come back */
	if (++f->refusals > MAX_REFUSALS)
		return next_host(f);
	add_name(&f->except, f->link->target.instance);
	return ask(f);
}

static Step
stage2_start(Front *f)
{
	const CmTarget *t = &f->link->target;
	Text		conninfo = {0};
	const char *problem;

	if (excepted(f, t->instance))
	{
		conmgr_failed(f, "the Connection Manager names an instance again that refused", "\n");
		return next_host(f);
	}
	f->phase = PH_STAGE2;
	f->bogus_host = true;
	tried_set(f, t->host, t->hostaddr, t->port);
	options_conninfo(&f->options, &conninfo);
	add_host(&conninfo, t->host, t->hostaddr, t->port, true);
	text_add_conninfo(&conninfo, "target_session_attrs", CM_ANY);
	if (f->options.load_balance_hosts)
		text_add_conninfo(&conninfo, "load_balance_hosts", "disable");
	if (!start_real(f, &conninfo))
		return FAILED;
	verbose_errors(f, true);
	if (real.PQstatus(f->sql) == CONNECTION_BAD)
		return refused(f);
	return follow(f, &problem) ? WRITE : unwatched(f, problem);
}

Step
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
			if (target_is_sound(&f->link->target, &f->link->error))
				return stage2_start(f);
			conmgr_failed(f, "could not receive server address from "
						  "Connection Manager: ",
						  text_of(&f->link->error));
			break;
		case LINK_NO_TARGET:
			f->rejected = f->link->rejects;
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

Step
stage2(Front *f)
{
	PostgresPollingStatusType s = real_step(f);
	const char *problem;

	if (s == PGRES_POLLING_FAILED)
		return refused(f);
	if (!follow(f, &problem))
		return unwatched(f, problem);
	if (s != PGRES_POLLING_OK)
		return s == PGRES_POLLING_READING ? READ : WRITE;
	return watch_look(f->watch) ? refused(f) : DONE;
}
