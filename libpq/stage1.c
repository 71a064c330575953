/*
 * stage1.c: the first connection to a host of the list, by which the front learns whether it is a conmgr or a server. Run by the application's
 * thread that connects; never blocks, but for looking up names, as libpq.
 *
 * Whether a server's refusal ends the list or leads to the next host is for libpq to say, by rules that differ from version to version.
 * So libpq is given two hosts, the second one with the impossible port 0: if it has gone on to that one, the front goes on.
 */
#include "front.h"
#include "steps.h"

#include <netdb.h>
#include <sys/socket.h>

__thread Front *connecting_front;

/* ---- a host name with several addresses ---- */

/*
 * libpq's own blocking functions go on to the host's next address when connect_timeout is over. PQconnectPoll cannot be told to do so: the
 * addresses behind the one that took too long are connected to one by one.
 */
static void
numeric(const struct addrinfo *a, char *out, size_t size)
{
	if (getnameinfo(a->ai_addr, a->ai_addrlen, out, (socklen_t) size, NULL, 0, NI_NUMERICHOST) != 0)
		*out = '\0';
}

bool
later_address(Front *f)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
	const Host *h = current_host(f);
	const char *used = real.PQhostaddr(f->sql);
	char		text[NI_MAXHOST];

	if (h->hostaddr || !host_is_tcp(h))
		return false;
	if (!f->addresses)
	{
		if (!used || getaddrinfo(h->host, NULL, &hints, &f->addresses) != 0)
		{
			f->addresses = NULL;
			return false;
		}
		for (f->address = f->addresses; f->address; f->address = f->address->ai_next)
		{
			numeric(f->address, text, sizeof text);
			if (!strcmp(text, used))
				break;
		}
	}
	if (f->address)
		f->address = f->address->ai_next;
	return f->address != NULL;
}

void
forget_addresses(Front *f)
{
	if (f->addresses)
		freeaddrinfo(f->addresses);
	f->addresses = f->address = NULL;
}

/* ---- the connection ---- */

/* The user's parameters for one host, or for the whole list if it does not fit together. */
void
host_conninfo(const Front *f, const Host *h, bool bogus, Text *out)
{
	const Options *o = &f->options;

	options_conninfo(o, out);
	if (h)
	{
		Text		host = {0};
		Text		hostaddr = {0};
		Text		port = {0};
		char		address[NI_MAXHOST] = "";

		if (h->hostaddr)
			snprintf(address, sizeof address, "%s", h->hostaddr);
		text_addf(&host, "%s%s", h->host ? h->host : "", bogus && (h->host || !h->hostaddr) ? ",none" : "");
		if (f->address)
			numeric(f->address, address, sizeof address);
		text_addf(&hostaddr, "%s%s", address, bogus && *address ? ",127.0.0.1" : "");
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
bool
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
	if (on && f->address && later_address(f))
		return stage1_start(f);
	return on ? next_host(f) : FAILED;
}

Step
stage1_start(Front *f)
{
	Text		conninfo = {0};

	f->phase = PH_STAGE1;
	f->bogus_host = !f->options.random;
	host_conninfo(f, current_host(f), f->bogus_host, &conninfo);
	if (!start_real(f, &conninfo))
		return FAILED;
	return real.PQstatus(f->sql) == CONNECTION_BAD ? stage1_failed(f) : WRITE;
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

Step
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

Step
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

Step
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
