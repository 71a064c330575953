/*
 * link.c: the front's connection to conmgr (docs/protocol.md, part 2): a
 * small nonblocking client of protocol 3.0. Run by the application's thread
 * that connects, and by the watcher thread; never blocks, but for looking up
 * "localhost" (link_open).
 *
 * It starts in one of three ways. link_adopt: the real libpq has connected, as
 * the user has asked for, and conmgr has announced itself. link_open: the
 * user wants TLS or the like, which conmgr does not have; then the front
 * connects itself, in the clear, to a loopback address or a Unix socket, and
 * gives away nothing: it asks for TLS first (conmgr always declines, so one
 * that accepts is a server), and whatever is not a conmgr's answer makes it a
 * stranger, which the real libpq then connects to in full. link_again: the
 * same, to where a conmgr was before.
 *
 * What conmgr says is taken apart in answer.c.
 */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static CmLink *
link_new(void)
{
	CmLink	   *link = calloc(1, sizeof *link);

	if (!link)
		return NULL;
	link->fd = -1;
	link->offers.target_wait = -1;
	link->in_size = 1024;
	link->in = malloc(link->in_size);
	if (!link->in)
	{
		free(link);
		return NULL;
	}
	return link;
}

static void
put32(Text *out, uint32_t n)
{
	n = htonl(n);
	text_addn(out, (char *) &n, 4);
}

/* ---- starting ---- */

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
static bool
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

static void
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

/* One that binds the link to an instance with that attribute. */
void
link_query(CmLink *link, const char *attribute, const Text *statement)
{
	text_cut(&link->out, 0);
	text_add(&link->out, "Q");
	put32(&link->out, (uint32_t) statement->len + 5);
	text_addn(&link->out, text_of(statement), statement->len + 1);
	link->out.broken |= statement->broken;
	link->attribute = attribute;
	link->sent = 0;
	link->in_len = link->received = 0;
	link->got_target = link->got_error = false;
	link->sqlstate[0] = '\0';
	link->fields = 0;
	target_free(&link->target);
	text_cut(&link->error, 0);
	link->state = LS_SENDING;
}

/* conmgr 1.0 has EXCEPT only. */
void
link_ask(CmLink *link, const Question *q)
{
	Text		query = {0};

	text_addf(&query, "SHOW TARGET %s%s%s", q->attribute,
			  *q->except ? " EXCEPT " : "", q->except);
	if (q->wait && link->offers.wait)
	{
		text_add(&query, " WAIT ");
		text_add_literal(&query, q->wait);
	}
	if (link->offers.notify)
		text_add(&query, " NOTIFY");
	link_query(link, q->attribute, &query);
	text_free(&query);
}

/* LINK_READY: all is sent. */
static LinkStep
transmit(CmLink *link, const Text *out)
{
	if (out->broken)
	{
		text_add(&link->error, "out of memory\n");
		return LINK_FAILED;
	}
	while (link->sent < out->len)
	{
		ssize_t		n = send(link->fd, out->data + link->sent,
							 out->len - link->sent, MSG_NOSIGNAL);

		if (n >= 0)
			link->sent += (size_t) n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return LINK_WRITE;
		else if (errno != EINTR)
		{
			text_addf(&link->error, "%s\n", strerror(errno));
			return LINK_FAILED;
		}
	}
	return LINK_READY;
}

/* ---- the steps ---- */

static LinkStep
connected(CmLink *link)
{
	static const char ssl_request[8] = {
		0, 0, 0, 8, 0x04, (char) 0xd2, 0x16, 0x2f
	};
	struct pollfd p = {
		.fd = link->fd,
		.events = POLLOUT
	};
	int			error = 0;
	socklen_t	size = sizeof error;

	if (poll(&p, 1, 0) == 0)
		return LINK_WRITE;
	if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error)
		return dial(link) ? LINK_WRITE : LINK_STRANGER;
	if (send(link->fd, ssl_request, sizeof ssl_request, MSG_NOSIGNAL) !=
		(ssize_t) sizeof ssl_request)
		return LINK_STRANGER;
	link->state = LS_SSL_ANSWER;
	return LINK_READ;
}

static LinkStep
ssl_answer(CmLink *link)
{
	char		answer;
	ssize_t		n = recv(link->fd, &answer, 1, 0);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return LINK_READ;
	if (n != 1 || answer != 'N')
		return LINK_STRANGER;
	link->sent = 0;
	/* some hundred bytes into an empty socket buffer */
	if (transmit(link, &link->startup) != LINK_READY)
		return LINK_STRANGER;
	link->state = LS_STARTUP;
	return LINK_READ;
}

LinkStep
link_step(CmLink *link)
{
	LinkStep	step;

	switch (link->state)
	{
		case LS_CONNECTING:
			return connected(link);
		case LS_SSL_ANSWER:
			return ssl_answer(link);
		case LS_STARTUP:
			step = link_receive(link);
			if (step == LINK_READ)
				return step;
			if (step != LINK_READY || !link->is_conmgr || link->got_error)
				return LINK_STRANGER;
			link->state = LS_IDLE;
			return LINK_READY;
		case LS_IDLE:
			return LINK_READY;
		case LS_SENDING:
			step = transmit(link, &link->out);
			if (step != LINK_READY)
				return step;
			link->state = LS_ANSWER;
			return LINK_READ;
		case LS_ANSWER:
			break;
	}
	step = link_receive(link);
	if (step == LINK_STRANGER)
	{
		if (!link->error.len)
			text_add(&link->error,
					 "the answer is not one of a Connection Manager\n");
		return LINK_FAILED;
	}
	if (step != LINK_READY)
		return step;
	link->state = LS_IDLE;
	if (link->got_error)
		return LINK_NO_TARGET;
	if (link->got_target)
		return LINK_TARGET;
	text_add(&link->error, "the answer has no row\n");
	return LINK_FAILED;
}

/* ---- what is known of it ---- */

int
link_socket(const CmLink *link)
{
	return link->fd;
}

/* Its address, numeric; "" by a Unix socket. */
const char *
link_peer(const CmLink *link)
{
	return link->peer;
}

bool
link_is_connecting(const CmLink *link)
{
	return link->state == LS_CONNECTING;
}

/* The question is still on its way. */
bool
link_is_sending(const CmLink *link)
{
	return link->state == LS_SENDING;
}

/* What the next step waits for is that the socket can be written to. */
bool
link_is_writing(const CmLink *link)
{
	return link->state == LS_CONNECTING || link->state == LS_SENDING;
}

/* That was its answer. */
bool
link_shuts_down(const CmLink *link)
{
	return !strcmp(link->sqlstate, CM_CANNOT_CONNECT_NOW);
}

/* So was this: no instance is what was asked for. */
bool
link_has_none(const CmLink *link)
{
	return !strcmp(link->sqlstate, CM_CANNOT_ESTABLISH);
}

const Offers *
link_offers(const CmLink *link)
{
	return &link->offers;
}

const CmTarget *
link_target(const CmLink *link)
{
	return &link->target;
}

const char *
link_error(const CmLink *link)
{
	return text_of(&link->error);
}
