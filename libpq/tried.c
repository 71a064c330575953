/*
 * tried.c: an attempt of the real libpq to connect: its steps, what to make of its failure, and what was tried. Run by the application's
 * thread that connects; never blocks, but for PQhostaddr() of a failed connection, which may look the name up that libpq has just looked up.
 *
 * Whether a refusal ends the list of hosts or leads to the next one is for libpq to say, by rules that differ from version to version. So it
 * is given two hosts, the second one with the impossible port 0: if it has gone on to that one, the front goes on.
 */
#include "front.h"
#include "steps.h"

#include <ctype.h>
#include <netdb.h>
#include <sys/socket.h>

/* ---- what is tried ---- */

static void
keep(char **to, const char *value)
{
	free(*to);
	*to = value ? strdup(value) : NULL;
}

/* A NULL stands for a parameter that was not given, and in want of memory for one that was. */
void
tried_set(Front *f, const char *host, const char *hostaddr, const char *port)
{
	Tried	   *t = &f->tried;

	keep(&t->given.host, host);
	keep(&t->given.hostaddr, hostaddr);
	keep(&t->given.port, port);
	t->address[0] = '\0';
	t->closed = false;
	t->first = 0;
	t->polled = PGRES_POLLING_WRITING;
}

void
tried_free(Front *f)
{
	free(f->tried.given.host);
	free(f->tried.given.hostaddr);
	free(f->tried.given.port);
	memset(&f->tried, 0, sizeof f->tried);
}

/* A host of the user's list, and with bogus the one behind it. */
void
add_host(Text *out, const char *host, const char *hostaddr, const char *port, bool bogus)
{
	Text		list = {0};

	text_addf(&list, "%s%s", host ? host : "", bogus && (host || !hostaddr) ? ",none" : "");
	text_add_conninfo(out, "host", text_of(&list));
	text_cut(&list, 0);
	text_addf(&list, "%s%s", hostaddr ? hostaddr : "", bogus && hostaddr ? ",127.0.0.1" : "");
	text_add_conninfo(out, "hostaddr", text_of(&list));
	text_cut(&list, 0);
	text_addf(&list, "%s%s", port ? port : "", bogus ? ",0" : "");
	text_add_conninfo(out, "port", text_of(&list));
	out->broken |= list.broken;
	text_free(&list);
}

/* The real connection has tried the host that it was given, and gone on to the bogus one. */
bool
tried_moved(const Front *f)
{
	const char *port = real.PQport(f->sql);

	return f->bogus_host && port && !strcmp(port, "0");
}

/*
 * A handle that is not connected shows what was tried last. A real connection that has gone on to the bogus host, is none, or
 * leads to a server that does not suit, gives its place to one that is given the user's parameters and one thing that libpq refuses once
 * it has taken the others.
 */
void
tried_show(Front *f)
{
	const Host *h = &f->tried.given;
	Text		conninfo = {0};
	PGconn	   *shown;

	if (!f->blank && !tried_moved(f) && real.PQstatus(f->sql) == CONNECTION_BAD)
		return;
	options_conninfo(&f->options, &conninfo);
	add_host(&conninfo, h->host, h->hostaddr, h->port, false);
	text_add_conninfo(&conninfo, "sslmode", "none of libpq's");
	shown = conninfo.broken ? NULL : real.PQconnectStart(conninfo.data);
	text_free(&conninfo);
	front_set_sql(f, shown);
	f->bogus_host = false;
	f->blank = true;
}

/* PQhostaddr() of such a handle. libpq has gone through all addresses: it shows the last one, or the only one that it came to. */
const char *
tried_address(Front *f)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
	struct addrinfo *list;
	const Host *h = &f->tried.given;

	if (f->tried.address[0] || !host_is_tcp(h))
		return f->tried.address;
	if (h->hostaddr)
		return h->hostaddr;
	if (getaddrinfo(h->host, NULL, &hints, &list) == 0)
	{
		for (struct addrinfo *a = list; a; a = a->ai_next)
			if (!a->ai_next)
				address_text(a->ai_addr, a->ai_addrlen, f->tried.address, sizeof f->tried.address);
		freeaddrinfo(list);
	}
	return f->tried.address;
}

void
address_text(const struct sockaddr *address, size_t len, char *out, size_t size)
{
	if (getnameinfo(address, (socklen_t) len, out, (socklen_t) size, NULL, 0, NI_NUMERICHOST) != 0)
		*out = '\0';
}

/* ---- a step ---- */

/* Where libpq waits for what a server in the clear says. A server that breaks off later is libpq's to judge, but for an instance of conmgr. */
static bool
awaits_word(const Front *f, ConnStatusType status)
{
	switch (status)
	{
		case CONNECTION_MADE:
		case CONNECTION_SSL_STARTUP:
		case CONNECTION_GSS_STARTUP:
		case CONNECTION_AWAITING_RESPONSE:
			return f->phase == PH_STAGE2 || !real.PQsslInUse(f->sql);
		case CONNECTION_AUTH_OK:
			return f->phase == PH_STAGE2 || real.PQparameterStatus(f->sql, CM_VERSION_PARAMETER);
		default:
			return false;		/* before the socket is connected, a look would take its error away */
	}
}

/* The byte that comes next; -1 if there is none, and then tried.closed if there will be none. */
static int
peek(Front *f)
{
	unsigned char byte;
	ssize_t		n;

	do
		n = recv(real.PQsocket(f->sql), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	f->tried.closed = n == 0 || (n < 0 && (errno == ECONNRESET || errno == EPIPE));
	return n > 0 ? byte : -1;
}

PostgresPollingStatusType
real_step(Front *f)
{
	Tried	   *t = &f->tried;
	ConnStatusType status = real.PQstatus(f->sql);
	const char *address;
	int			next = -1;

	f->reached |= status == CONNECTION_AWAITING_RESPONSE;
	if (!tried_moved(f) && (address = real.PQhostaddr(f->sql)) && *address)
		snprintf(t->address, sizeof t->address, "%s", address);
	t->closed = false;
	if (awaits_word(f, status))
	{
		next = peek(f);

		/* Libpq would find nothing either; if something came between the two looks, it would not be known what libpq has seen. */
		if (next < 0 && !t->closed && t->polled == PGRES_POLLING_READING && !real.PQsslInUse(f->sql))
			return t->polled;
	}
	t->first = next > 0 ? (char) next : 0;
	connecting_front = f;
	t->polled = real.PQconnectPoll(f->sql);
	connecting_front = NULL;
	return t->polled;
}

/* ---- a failure ---- */

/* libpq's message, without its complaint about the bogus host, which is the last line. */
static size_t
message_length(const Front *f, const char *message)
{
	size_t		len = strlen(message);

	if (!tried_moved(f))
		return len;
	if (len > 0)
		len--;
	while (len > 0 && message[len - 1] != '\n')
		len--;
	return len;
}

void
tried_message(Front *f)
{
	const char *message = real.PQerrorMessage(f->sql);

	text_addn(&f->err, message, message_length(f, message));
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
 * The same for a connection that gives its errors in the verbose form (verbose_errors), as they must be shown. sqlstate gets that of
 * the last error of a server, "" if there is none.
 */
void
tried_verbose_message(Front *f, char sqlstate[6])
{
	const char *p = real.PQerrorMessage(f->sql);
	const char *end = p + message_length(f, p);
	bool		keep_all = f->verbosity_set && f->verbosity == PQERRORS_VERBOSE;

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
				text_addn(&f->err, p, (size_t) (colon + 3 - p));
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
		text_addn(&f->err, p, n);
		p += n;
	}
}

/* Libpq tells the SQLSTATE of a refusal in no other way. */
void
verbose_errors(Front *f, bool on)
{
	real.PQsetErrorVerbosity(f->sql, on ? PQERRORS_VERBOSE : f->verbosity_set ? f->verbosity : PQERRORS_DEFAULT);
}

/* Is the next host to be tried? A peer that closes without a word is passed over: it may be a conmgr that has no room. */
bool
tried_goes_on(const Front *f)
{
	return tried_moved(f) || f->tried.closed;
}
