/*
 * link.c: the front's connection to conmgr (docs/protocol.md, part 2): a
 * small nonblocking client of protocol 3.0. Run by the application's thread
 * that connects, and by the watcher thread; never blocks.
 *
 * How it begins and ends is in dial.c; what conmgr says is taken apart in
 * answer.c.
 */
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* One that binds the link to an instance with that attribute. */
void
link_query(CmLink *link, const char *attribute, const Text *statement)
{
	text_cut(&link->out, 0);
	if (link->state == LS_CONNECTED)
		text_addn(&link->out, link->startup.data, link->startup.len);
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
	link->state = link->state == LS_CONNECTED ? LS_GREETING : LS_SENDING;
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
	if (link->knocks)
	{
		link->state = LS_CONNECTED;
		return LINK_CONNECTED;
	}
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

/* All of it fits into an empty socket buffer. */
static LinkStep
greeting(CmLink *link)
{
	if (transmit(link, &link->out) != LINK_READY)
		return LINK_STRANGER;
	link->offers = no_offers;
	link->state = LS_STARTUP;
	return LINK_READ;
}

static bool
same_offers(const Offers *a, const Offers *b)
{
	return a->wait == b->wait && a->notify == b->notify &&
		a->resume == b->resume && a->target_wait == b->target_wait &&
		a->grace == b->grace;
}

static LinkStep
started(CmLink *link)
{
	LinkStep	step = link_receive(link);

	if (step == LINK_READ)
		return step;
	if (step != LINK_READY || !link->is_conmgr || link->got_error ||
		(link->knocks && !same_offers(&link->offers, &link->expected)))
		return LINK_STRANGER;
	link->state = link->knocks ? LS_ANSWER : LS_IDLE;
	link->knocks = false;
	return LINK_READY;
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
		case LS_CONNECTED:
			return LINK_CONNECTED;
		case LS_GREETING:
			return greeting(link);
		case LS_STARTUP:
			return started(link);
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

/* The question went with the startup, and is not answered yet. */
bool
link_is_asked(const CmLink *link)
{
	return link->state == LS_ANSWER || link->state == LS_GREETING ||
		(link->state == LS_STARTUP && link->knocks);
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

/*
 * So was this: the instance that it is bound to is lost. Whatever else conmgr
 * says is of itself: it is about to end, or has no room.
 */
bool
link_tells_of_loss(const CmLink *link)
{
	return link->got_error && !strcmp(link->sqlstate, CM_ADMIN_SHUTDOWN) &&
		!says_own_end(link_error(link));
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
