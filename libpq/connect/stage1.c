/*
 * stage1.c: the first connection to a host of the list, by which the front
 * learns whether it is a conmgr or a server. Run by the application's thread
 * that connects; never blocks, but for looking up names, as libpq.
 */
#include "steps.h"

#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

/* ---- a host name with several addresses ---- */

/*
 * libpq's own blocking functions go on to the host's next address when
 * connect_timeout is over. PQconnectPoll cannot be told to do so: the
 * addresses behind the one that took too long are connected to one by one.
 */
bool
later_address(Connection *c)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_family = AF_UNSPEC
	};
	const Host *h = current_host(c);
	const char *used = real.PQhostaddr(c->sql);
	char		shown[NI_MAXHOST];

	if (h->hostaddr || !host_is_tcp(h))
		return false;
	if (!c->addresses)
	{
		if (!used || getaddrinfo(h->host, NULL, &hints, &c->addresses) != 0)
		{
			c->addresses = NULL;
			return false;
		}
		for (c->address = c->addresses; c->address;
			 c->address = c->address->ai_next)
		{
			address_text(c->address->ai_addr, c->address->ai_addrlen, shown,
						 sizeof shown);
			if (!strcmp(shown, used))
				break;
		}
	}
	if (c->address)
		c->address = c->address->ai_next;
	return c->address != NULL;
}

void
forget_addresses(Connection *c)
{
	if (c->addresses)
		freeaddrinfo(c->addresses);
	c->addresses = c->address = NULL;
}

/* ---- the connection ---- */

/*
 * The user's parameters for one host, or for the whole list if it does not fit
 * together.
 */
void
host_conninfo(const Connection *c, const Host *h, bool bogus, Text *out)
{
	const Options *o = &c->options;

	options_conninfo(o, out);
	if (o->server_options && for_console(c))
		text_add_conninfo(out, "options", options_get(o, "options"));
	if (h)
	{
		char		address[NI_MAXHOST];

		if (c->address)
			address_text(c->address->ai_addr, c->address->ai_addrlen, address,
						 sizeof address);
		add_host(out, h->host, c->address && *address ? address : h->hostaddr,
				 h->port, bogus);
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
	text_add_conninfo(out, "target_session_attrs",
					  o->odd_target ? o->target_session_attrs : CM_ANY);
	if (o->load_balance_hosts)
		text_add_conninfo(out, "load_balance_hosts", o->load_balance_hosts);
}

/*
 * A conmgr that speaks no later protocol than 3.0 (it says so by
 * NegotiateProtocolVersion, 'v') does not suit a user who insists on one. The
 * user means the instance: what this is, is asked once more by 3.0.
 */
static bool
protocol_refused(const Connection *c)
{
	return c->tried.first == 'v' && !c->old_protocol &&
		options_get(&c->options, "min_protocol_version");
}

/*
 * libpq before 14 goes on after no error of a server. A conmgr that refuses
 * has said before that it is one; not so at its very end.
 */
static bool
conmgr_refused(const Connection *c)
{
	return real.PQlibVersion() < 140000 &&
		(real.PQparameterStatus(c->sql, CM_VERSION_PARAMETER) ||
		 strstr(real.PQerrorMessage(c->sql), CM_SHUTDOWN_TEXT));
}

static Step
stage1_failed(Connection *c)
{
	bool		on = c->options.random || tried_goes_on(c) ||
		conmgr_refused(c);

	if (!c->old_protocol)
		c->before_that = c->err.len;
	tried_message(c);
	if (protocol_refused(c))
	{
		c->old_protocol = true;
		return STAGE1;
	}
	if (on && c->address && later_address(c))
		return STAGE1;
	return on ? NEXT : FAILED;
}

Step
stage1_start(Connection *c)
{
	const Host *h = current_host(c);
	Text		conninfo = {0};

	c->phase = PH_STAGE1;
	c->bogus_host = !c->options.random;
	tried_set(c, h->host, h->hostaddr, h->port);
	host_conninfo(c, h, c->bogus_host, &conninfo);
	if (c->old_protocol)
	{
		text_add_conninfo(&conninfo, "min_protocol_version", "3.0");
		text_add_conninfo(&conninfo, "max_protocol_version", "3.0");
	}
	if (!start_real(c, &conninfo))
		return FAILED;
	if (real.PQstatus(c->sql) != CONNECTION_BAD)
		return WRITE;
	c->invalid = c->bogus_host && !tried_moved(c);
	return stage1_failed(c);
}

/*
 * dbname=conmgr: the application wants to talk to conmgr itself, as to
 * PgBouncer by its database pgbouncer.
 */
bool
for_console(const Connection *c)
{
	const char *dbname = options_get(&c->options, "dbname");

	return dbname && !strcmp(dbname, "conmgr");
}

static Step
server_connected(Connection *c)
{
	if (c->old_protocol)
		return FAILED;			/* a server, and it does not speak what the
								 * user wants: that is in c->err */
	switch (target_suits(c, &c->err))
	{
		case SUITS:
			return DONE;
		case SUITS_NOT:
			return NEXT;
		case SUITS_ASK:
			break;
	}
	c->phase = PH_CHECK;
	if (target_ask(c))
		return READ;
	text_add(&c->err, real.PQerrorMessage(c->sql));
	return FAILED;
}

static Step
stage1_connected(Connection *c)
{
	if (!real.PQparameterStatus(c->sql, CM_VERSION_PARAMETER))
		return server_connected(c);
	if (c->old_protocol)
		text_cut(&c->err, c->before_that);
	if (for_console(c))
		return DONE;
	c->reached = false;
	if (adopt_conmgr(c))
		return ASK;
	text_add(&c->err, "out of memory\n");
	return FAILED;
}

Step
stage1(Connection *c)
{
	switch (real_step(c))
	{
		case PGRES_POLLING_READING:
			return READ;
		case PGRES_POLLING_WRITING:
			return WRITE;
		case PGRES_POLLING_OK:
			return stage1_connected(c);
		default:
			return stage1_failed(c);
	}
}

/* expected: it is known for a conmgr that offers that. False: nobody there. */
bool
probe_start(Connection *c, const Offers *expected)
{
	const Host *h = current_host(c);
	Login		login = options_login(&c->options);

	tried_set(c, h->host, h->hostaddr, h->port);
	c->link = expected ? link_knock(h, &login, expected) :
		link_open(h, &login);
	if (c->link)
		c->phase = PH_PROBE;
	return c->link != NULL;
}

Step
probe(Connection *c)
{
	size_t		before = c->err.len;

	switch (link_step(c->link))
	{
		case LINK_READ:
			return READ;
		case LINK_WRITE:
			return WRITE;
		case LINK_CONNECTED:
			put_question(c);
			return AGAIN;
		case LINK_READY:
			if (!link_is_asked(c->link))
				return ASK;
			if (conmgr_trusted(c))
			{
				c->phase = PH_ASK;
				return AGAIN;
			}
			text_cut(&c->err, before);	/* stage one will tell */
			break;
		default:
			break;
	}
	forget_known(c);
	leave_conmgr(c);
	return STAGE1;
}

Step
check(Connection *c)
{
	Suits		answer = SUITS_NOT;

	switch (target_poll(c, &answer, &c->err))
	{
		case PGRES_POLLING_READING:
			return READ;
		case PGRES_POLLING_OK:
			return answer == SUITS ? DONE : NEXT;
		default:
			return FAILED;
	}
}
