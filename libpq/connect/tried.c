/*
 * tried.c: an attempt of the real libpq to connect: its steps, what to make of
 * its failure, and what was tried. Run by the application's thread that
 * connects; never blocks, but for the address of a failed connection
 * (PQhostaddr(), note_silence), for which it may look the name up that libpq
 * has just looked up.
 *
 * Whether a refusal ends the list of hosts or leads to the next one is for
 * libpq to say, by rules that differ from version to version. So it is given
 * two hosts, the second one with the impossible port 0: if it has gone on to
 * that one, the front goes on.
 */
#include "steps.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- what is tried ---- */

static void
keep(char **to, const char *value)
{
	free(*to);
	*to = value ? strdup(value) : NULL;
}

/*
 * A NULL stands for a parameter that was not given, and in want of memory for
 * one that was.
 */
void
tried_set(Connection *c, const char *host, const char *hostaddr,
		  const char *port)
{
	Tried	   *t = &c->tried;

	keep(&t->given.host, host);
	keep(&t->given.hostaddr, hostaddr);
	keep(&t->given.port, port);
	t->address[0] = '\0';
	t->closed = false;
	t->first = 0;
	t->polled = PGRES_POLLING_WRITING;
}

void
tried_free(Connection *c)
{
	free(c->tried.given.host);
	free(c->tried.given.hostaddr);
	free(c->tried.given.port);
	memset(&c->tried, 0, sizeof c->tried);
}

/* A host of the user's list, and with bogus the one behind it. */
void
add_host(Text *out, const char *host, const char *hostaddr, const char *port,
		 bool bogus)
{
	Text		list = {0};

	text_addf(&list, "%s%s", host ? host : "",
			  bogus && (host || !hostaddr) ? ",none" : "");
	text_add_conninfo(out, "host", text_of(&list));
	text_cut(&list, 0);
	text_addf(&list, "%s%s", hostaddr ? hostaddr : "",
			  bogus && hostaddr ? ",127.0.0.1" : "");
	text_add_conninfo(out, "hostaddr", text_of(&list));
	text_cut(&list, 0);
	text_addf(&list, "%s%s", port ? port : "", bogus ? ",0" : "");
	text_add_conninfo(out, "port", text_of(&list));
	out->broken |= list.broken;
	text_free(&list);
}

/*
 * The real connection has tried the host that it was given, and gone on to the
 * bogus one.
 */
bool
tried_moved(const Connection *c)
{
	const char *port = real.PQport(c->sql);

	return c->bogus_host && port && !strcmp(port, "0");
}

/*
 * A handle that is not connected shows what was tried last. A real connection
 * that has gone on to the bogus host, is none, or leads to a server that does
 * not suit, gives its place to one that is given the user's parameters and one
 * thing that libpq refuses once it has taken the others.
 */
void
tried_show(Connection *c)
{
	const Host *h = &c->tried.given;
	Text		conninfo = {0};
	PGconn	   *shown;

	if (!c->blank && !tried_moved(c) &&
		real.PQstatus(c->sql) == CONNECTION_BAD)
		return;
	options_conninfo(&c->options, &conninfo);
	add_host(&conninfo, h->host, h->hostaddr, h->port, false);
	text_add_conninfo(&conninfo, "sslmode", "none of libpq's");
	shown = conninfo.broken ? NULL : real.PQconnectStart(conninfo.data);
	text_free(&conninfo);
	if (!replace_sql(c, shown, ends_quietly(c)))
		return;
	c->bogus_host = false;
	c->blank = true;
}

/* The parameters of what was tried last, the address as far as known. */
void
tried_conninfo(const Connection *c, Text *out)
{
	const Host *h = &c->tried.given;
	const char *address = c->tried.address;

	options_conninfo(&c->options, out);
	add_host(out, h->host, *address ? address : h->hostaddr, h->port, false);
}

/*
 * PQhostaddr() of such a handle. libpq has gone through all addresses: it
 * shows the last one, or the only one that it came to.
 */
const char *
tried_address(Connection *c)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_family = AF_UNSPEC
	};
	struct addrinfo *list;
	const Host *h = &c->tried.given;

	if (c->tried.address[0] || !host_is_tcp(h))
		return c->tried.address;
	if (h->hostaddr)
		return h->hostaddr;
	if (getaddrinfo(h->host, NULL, &hints, &list) == 0)
	{
		for (struct addrinfo *a = list; a; a = a->ai_next)
			if (!a->ai_next)
				address_text(a->ai_addr, a->ai_addrlen, c->tried.address,
							 sizeof c->tried.address);
		freeaddrinfo(list);
	}
	return c->tried.address;
}

/* ---- a step ---- */

__thread Connection *connecting;

/* Starts a real connection in the place of the one that was. */
bool
start_real(Connection *c, Text *conninfo)
{
	PGconn	   *conn;

	connecting = c;
	conn = conninfo->broken ? NULL : real.PQconnectStart(conninfo->data);
	connecting = NULL;
	text_free(conninfo);
	c->reached = false;
	if (!replace_sql(c, conn, ends_quietly(c)))
	{
		text_add(&c->err, "out of memory\n");
		return false;
	}
	c->blank = false;
	return true;
}

/*
 * Where libpq waits for what a server in the clear says. A server that breaks
 * off later is libpq's to judge, but for an instance of conmgr.
 */
static bool
awaits_word(const Connection *c, ConnStatusType status)
{
	switch (status)
	{
		case CONNECTION_MADE:
		case CONNECTION_SSL_STARTUP:
		case CONNECTION_GSS_STARTUP:
		case CONNECTION_AWAITING_RESPONSE:
			return c->phase == PH_STAGE2 || !real.PQsslInUse(c->sql);
		case CONNECTION_AUTH_OK:
			return c->phase == PH_STAGE2 ||
				real.PQparameterStatus(c->sql, CM_VERSION_PARAMETER);
		default:
			return false;		/* before the socket is connected, a look
								 * would take its error away */
	}
}

/*
 * The byte that comes next; -1 if there is none, and then tried.closed if
 * there will be none.
 */
static int
peek(Connection *c, int fd)
{
	unsigned char byte;
	ssize_t		n;

	do
		n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	c->tried.closed = n == 0 ||
		(n < 0 && (errno == ECONNRESET || errno == EPIPE));
	return n > 0 ? byte : -1;
}

PostgresPollingStatusType
real_step(Connection *c)
{
	Tried	   *t = &c->tried;
	ConnStatusType status = real.PQstatus(c->sql);
	const char *address;
	int			next = -1;
	int			copy = -1;

	c->reached |= status == CONNECTION_AWAITING_RESPONSE;
	if (!tried_moved(c) && (address = real.PQhostaddr(c->sql)) && *address)
		snprintf(t->address, sizeof t->address, "%s", address);
	t->closed = false;
	if (awaits_word(c, status))
	{
		next = peek(c, real.PQsocket(c->sql));

		/*
		 * Libpq would find nothing either; if something came between the two
		 * looks, it would not be known what libpq has seen.
		 */
		if (next < 0 && !t->closed && t->polled == PGRES_POLLING_READING &&
			!real.PQsslInUse(c->sql))
			return t->polled;
	}
	t->first = next > 0 ? (char) next : 0;

	/*
	 * The peer may close after the look, and before libpq's first word: before
	 * 15 libpq fails then, and has closed the socket.
	 */
	if (status == CONNECTION_MADE && real.PQlibVersion() < 150000)
		copy = fcntl(real.PQsocket(c->sql), F_DUPFD_CLOEXEC, 0);
	connecting = c;
	t->polled = real.PQconnectPoll(c->sql);
	connecting = NULL;
	if (copy >= 0)
	{
		if (t->polled == PGRES_POLLING_FAILED)
			peek(c, copy);
		close(copy);
	}
	return t->polled;
}

/* ---- a failure ---- */

/*
 * libpq's message, without its complaint about the bogus host, which is the
 * last line.
 */
static size_t
message_length(const Connection *c, const char *message)
{
	size_t		len = strlen(message);

	if (!tried_moved(c))
		return len;
	if (len > 0)
		len--;
	while (len > 0 && message[len - 1] != '\n')
		len--;
	return len;
}

/*
 * libpq passes over an address for which the kernel has no socket, and says
 * nothing if another host follows, as it does here.
 */
static void
note_silence(Connection *c, size_t before)
{
	int			family;
	int			fd;

	if (c->err.len > before || c->err.broken || !tried_moved(c))
		return;
	family = !host_is_tcp(&c->tried.given) ? AF_UNIX :
		strchr(tried_address(c), ':') ? AF_INET6 : AF_INET;
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	c->tried.silence = fd < 0 ? errno : EADDRNOTAVAIL;
	if (fd >= 0)
		close(fd);
}

/* The one thing to be said when all that was tried was silent. */
void
tried_silently(Connection *c)
{
	const Host *h = &c->tried.given;

	text_addf(&c->err, "connection to server at \"%s\", port %s failed: "
			  "could not create socket: %s\n",
			  h->host ? h->host : h->hostaddr ? h->hostaddr : "",
			  h->port ? h->port : "5432", strerror(c->tried.silence));
}

void
tried_message(Connection *c)
{
	const char *message = real.PQerrorMessage(c->sql);
	size_t		before = c->err.len;

	text_addn(&c->err, message, message_length(c, message));
	note_silence(c, before);
}

static bool
is_sqlstate(const char *p)
{
	for (int i = 0; i < 5; i++)
		if (!isdigit((unsigned char) p[i]) && !(p[i] >= 'A' && p[i] <= 'Z'))
			return false;
	return p[5] == ':' && p[6] == ' ';
}

/* "LOCATION:  InitPostgres, postinit.c:891", in whatever language. */
static bool
is_location(const char *line, size_t n)
{
	size_t		i = n;

	while (i > 0 && isdigit((unsigned char) line[i - 1]))
		i--;
	if (i == n || i == 0 || line[--i] != ':')
		return false;
	while (i > 0 && isalpha((unsigned char) line[i - 1]))
		i--;
	return i > 0 && line[i - 1] == '.';
}

/*
 * The same for a connection that gives its errors in the verbose form
 * (verbose_errors), as they must be shown. sqlstate gets that of the last
 * error of a server, "" if there is none.
 */
void
tried_verbose_message(Connection *c, char sqlstate[6])
{
	const char *p = real.PQerrorMessage(c->sql);
	const char *end = p + message_length(c, p);
	bool		keep_all = c->settings.verbosity == PQERRORS_VERBOSE;
	size_t		before = c->err.len;

	sqlstate[0] = '\0';
	while (p < end)
	{
		size_t		n = strcspn(p, "\n");
		const char *colon = memmem(p, n, ":  ", 3);

		if (colon && colon + 10 <= p + n && is_sqlstate(colon + 3))
		{
			memcpy(sqlstate, colon + 3, 5);
			sqlstate[5] = '\0';
			if (!keep_all)
			{
				text_addn(&c->err, p, (size_t) (colon + 3 - p));
				n -= (size_t) (colon + 10 - p);
				p = colon + 10;
			}
		}
		else if (!keep_all && sqlstate[0] && is_location(p, n))
		{
			p += n + (p + n < end);
			continue;
		}
		n += p + n < end;		/* the newline */
		text_addn(&c->err, p, n);
		p += n;
	}
	note_silence(c, before);
}

/* Libpq tells the SQLSTATE of a refusal in no other way. */
void
verbose_errors(Connection *c, bool on)
{
	real.PQsetErrorVerbosity(c->sql, on ? PQERRORS_VERBOSE :
							 c->settings.verbosity);
}

/*
 * Is the next host to be tried? A peer that closes without a word is passed
 * over: it may be a conmgr that has no room.
 */
bool
tried_goes_on(const Connection *c)
{
	return tried_moved(c) || c->tried.closed;
}
