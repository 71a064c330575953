/*
 * dial.c: how a link to conmgr begins and ends. Run by the application's
 * thread that connects, and by the watcher thread; never blocks, but for
 * looking up "localhost" (link_open, link_knock).
 *
 * It begins in one of four ways. link_adopt: the real libpq has connected, as
 * the user has asked for, and conmgr has announced itself. link_open: the
 * user wants TLS or the like, which conmgr does not have; then the front
 * connects itself, in the clear, to a loopback address or a Unix socket, and
 * gives away nothing: it asks for TLS first (conmgr always declines, so one
 * that accepts is a server), and whatever is not a conmgr's answer makes it a
 * stranger, which the real libpq then connects to in full. link_again: the
 * same, to where a conmgr was before. link_knock: where this process has found
 * a conmgr, for a user who wants nothing of that.
 */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const Offers no_offers = {.target_wait = -1};

static CmLink *
link_new(void)
{
	CmLink	   *link = calloc(1, sizeof *link);

	if (!link)
		return NULL;
	link->fd = -1;
	link->offers = no_offers;
	link->in_size = 1024;
	link->in = malloc(link->in_size);
	if (!link->in)
	{
		free(link);
		return NULL;
	}
	return link;
}

void
put32(Text *out, uint32_t n)
{
	n = htonl(n);
	text_addn(out, (char *) &n, 4);
}

static void
add_startup(Text *out, const char *key, const char *value)
{
	if (value && *value)
	{
		text_addn(out, key, strlen(key) + 1);
		text_addn(out, value, strlen(value) + 1);
	}
}

/* Of a connection that is made, or adopted. */
static bool
make_startup(CmLink *link, const Login *login)
{
	const char *user = login->user;
	const char *dbname = login->dbname;
	Text		body = {0};

	put32(&body, 3 << 16);
	add_startup(&body, "user", user && *user ? user : "unknown");
	add_startup(&body, "database", dbname && *dbname ? dbname : user);
	add_startup(&body, "application_name", login->application_name);
	text_addn(&body, "", 1);
	put32(&link->startup, (uint32_t) body.len + 4);
	text_addn(&link->startup, text_of(&body), body.len);
	link->startup.broken |= body.broken;
	text_free(&body);
	return !link->startup.broken;
}

#define STREAM (SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)

/* Opens a socket to link->place. */
static bool
dial_place(CmLink *link)
{
	const struct sockaddr *a = (struct sockaddr *) &link->place.address;
	bool		local = a->sa_family == AF_UNIX;
	int			on = 1;

	if (link->fd >= 0)
		close(link->fd);
	link->fd = socket(a->sa_family, STREAM, 0);
	if (link->fd < 0)
		return false;
	if (!local)
	{
		setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		address_text(a, link->place.size, link->peer, sizeof link->peer);
	}
	link->state = LS_CONNECTING;
	return connect(link->fd, a, link->place.size) == 0 ||
		(!local && errno == EINPROGRESS);
}

/* Opens a socket to the next address that does not refuse at once. */
bool
dial(CmLink *link)
{
	while (link->next_address)
	{
		struct addrinfo *a = link->next_address;

		link->next_address = a->ai_next;
		memcpy(&link->place.address, a->ai_addr, a->ai_addrlen);
		link->place.size = a->ai_addrlen;
		if (dial_place(link))
			return true;
	}
	return false;
}

static bool
dial_host(CmLink *link, const Host *h)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_family = AF_UNSPEC,
		.ai_flags = AI_NUMERICSERV
	};

	if (h->hostaddr)
		hints.ai_flags |= AI_NUMERICHOST;
	if (getaddrinfo(h->hostaddr ? h->hostaddr : h->host, host_port(h), &hints,
					&link->addresses) != 0)
	{
		link->addresses = NULL;
		return false;
	}
	link->next_address = link->addresses;
	return dial(link);
}

/* NULL: nobody there, or no memory; the real libpq will say what is wrong. */
CmLink *
link_open(const Host *h, const Login *login)
{
	CmLink	   *link = link_new();

	if (!link)
		return NULL;
	if (!make_startup(link, login) ||
		!(host_is_tcp(h) ? dial_host(link, h) :
		  socket_place(h, &link->place) && dial_place(link)))
	{
		link_close(link, true);
		return NULL;
	}
	return link;
}

/*
 * To where a conmgr was before, in the clear: once it is connected, link_ask
 * sends the question together with the startup. expected: what that conmgr
 * offered; one that offers anything else is a stranger.
 */
CmLink *
link_knock(const Host *h, const Login *login, const Offers *expected)
{
	CmLink	   *link = link_open(h, login);

	if (link)
	{
		link->knocks = true;
		link->offers = link->expected = *expected;
	}
	return link;
}

/*
 * Of a socket that is connected to that host, and at whose other end a conmgr
 * has announced itself; it stays the caller's, for longer than the link. NULL:
 * out of memory.
 */
CmLink *
link_adopt(int fd, const Host *h, const Login *login)
{
	CmLink	   *link = link_new();
	Place	   *place;

	if (!link)
		return NULL;
	link->fd = fd;
	link->borrowed = true;
	link->state = LS_IDLE;
	link->is_conmgr = true;
	place = &link->place;
	place->size = sizeof place->address;
	if (getpeername(fd, (struct sockaddr *) &place->address,
					&place->size) < 0)
		place->size = 0;
	else if (place->address.ss_family != AF_UNIX)
		address_text((struct sockaddr *) &place->address, place->size,
					 link->peer, sizeof link->peer);
	else if (!socket_place(h, place))
		place->size = 0;
	if (make_startup(link, login))
		return link;
	link_close(link, true);
	return NULL;
}

/* NULL: nobody there, or no memory. */
CmLink *
link_again(const Place *place, const Text *startup)
{
	CmLink	   *link = link_new();

	if (!link)
		return NULL;
	link->place = *place;
	text_addn(&link->startup, startup->data, startup->len);
	if (!link->startup.broken && dial_place(link))
		return link;
	link_close(link, true);
	return NULL;
}

void
target_free(CmTarget *t)
{
	free(t->instance);
	free(t->host);
	free(t->hostaddr);
	free(t->port);
	free(t->client);
	free(t->resume);
	memset(t, 0, sizeof *t);
}

/* Quietly: conmgr is not told, as the link is another process's too. */
void
link_close(CmLink *link, bool quietly)
{
	if (!link)
		return;
	if (!link->borrowed && link->fd >= 0)
	{
		if (!quietly && link->state >= LS_IDLE &&
			send(link->fd, "X\0\0\0\4", 5, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			link->state = LS_IDLE;	/* it is closed anyway */
		close(link->fd);
	}
	if (link->addresses)
		freeaddrinfo(link->addresses);
	text_free(&link->startup);
	text_free(&link->out);
	text_free(&link->error);
	target_free(&link->target);
	free(link->in);
	free(link);
}
