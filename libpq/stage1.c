/*
 * stage1.c: the first connection to a host of the list, by which the front learns whether it is a conmgr or a server. Run by the application's
 * thread that connects; never blocks, but for looking up names, as libpq.
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
			address_text(f->address->ai_addr, f->address->ai_addrlen, text, sizeof text);
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
		char		address[NI_MAXHOST];

		if (f->address)
			address_text(f->address->ai_addr, f->address->ai_addrlen, address, sizeof address);
		add_host(out, h->host, f->address && *address ? address : h->hostaddr, h->port, bogus);
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
	text_add_conninfo(out, "target_session_attrs", o->odd_target ? o->target_session_attrs : CM_ANY);
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
	{
		front_set_sql(f, conn);
		f->blank = false;
	}
	else
		text_add(&f->err, "out of memory\n");
	return conn != NULL;
}

/*
 * A conmgr that speaks no later protocol than 3.0 (it says so by NegotiateProtocolVersion, 'v') does not suit a user who insists on one. The
 * user means the instance: what this is, is asked once more by 3.0.
 */
static bool
protocol_refused(const Front *f)
{
	return f->tried.first == 'v' && !f->old_protocol && options_get(&f->options, "min_protocol_version");
}

static Step
stage1_failed(Front *f)
{
	bool		on = f->options.random || tried_goes_on(f);

	if (!f->old_protocol)
		f->before_that = f->err.len;
	tried_message(f);
	if (protocol_refused(f))
	{
		f->old_protocol = true;
		return stage1_start(f);
	}
	if (on && f->address && later_address(f))
		return stage1_start(f);
	return on ? next_host(f) : FAILED;
}

Step
stage1_start(Front *f)
{
	const Host *h = current_host(f);
	Text		conninfo = {0};

	f->phase = PH_STAGE1;
	f->bogus_host = !f->options.random;
	tried_set(f, h->host, h->hostaddr, h->port);
	host_conninfo(f, h, f->bogus_host, &conninfo);
	if (f->old_protocol)
	{
		text_add_conninfo(&conninfo, "min_protocol_version", "3.0");
		text_add_conninfo(&conninfo, "max_protocol_version", "3.0");
	}
	if (!start_real(f, &conninfo))
		return FAILED;
	if (real.PQstatus(f->sql) != CONNECTION_BAD)
		return WRITE;
	f->invalid = f->bogus_host && !tried_moved(f);
	return stage1_failed(f);
}

/* dbname=conmgr: the application wants to talk to conmgr itself, as to PgBouncer by its database pgbouncer. */
bool
for_console(const Front *f)
{
	const char *dbname = options_get(&f->options, "dbname");

	return dbname && !strcmp(dbname, "conmgr");
}

static Step
server_connected(Front *f)
{
	if (f->old_protocol)
		return FAILED;			/* a server, and it does not speak what the user wants: that is in f->err */
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

static Step
stage1_connected(Front *f)
{
	PGconn	   *conmgr;

	if (!real.PQparameterStatus(f->sql, CM_VERSION_PARAMETER))
		return server_connected(f);
	if (f->old_protocol)
		text_cut(&f->err, f->before_that);
	if (for_console(f))
		return DONE;
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
	switch (real_step(f))
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
