/*
 * news.c: what comes on a bound conmgr connection that nobody has asked for:
 * notices (ParameterStatus), which end nothing, and the news of a loss: an
 * error, or the end of the connection. Run by the watcher thread and the
 * application's threads, under the watcher's lock; blocks on nothing.
 *
 * Notices are taken out of the socket, whole ones only. What ends the
 * connection stays there.
 */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MAX_NOTICE 2000			/* bytes; a bound conmgr says nothing else */

/*
 * False: nothing has come. *n: as recv(2), 0 or -1 if the connection has ended
 * without a word.
 */
static bool
peek(int fd, char *buffer, size_t size, ssize_t *n)
{
	do
		*n = recv(fd, buffer, size, MSG_PEEK | MSG_DONTWAIT);
	while (*n < 0 && errno == EINTR);
	return *n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

/* A part of a message is there: will the rest come? */
static News
unfinished(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && p.revents ? NEWS_CLOSED : NEWS_NONE;
}

/* The rest of the value if it begins with that word. */
static const char *
after_word(const char *value, const char *word)
{
	size_t		n = strlen(word);

	if (strncmp(value, word, n) != 0 || (value[n] && value[n] != ' '))
		return NULL;
	return value[n] ? value + n + 1 : value + n;
}

/* Values that are not known are a later conmgr's. */
static void
heed(const char *value, Told *told)
{
	const char *rest;

	if (after_word(value, CM_NOTICE_DRAINING))
		told->draining = true;
	else if (after_word(value, CM_NOTICE_SERVING))
		told->draining = false;
	else if (after_word(value, CM_NOTICE_ROLE))
		told->role = true;
	else if ((rest = after_word(value, CM_NOTICE_AWAY)) &&
			 strspn(rest, "0123456789") == strlen(rest) &&
			 *rest && strlen(rest) <= 8)
		told->away = strtol(rest, NULL, 10);
}

/* Of a ParameterStatus, between p and end: its name, and its value. */
static void
take_notice(const char *p, const char *end, Told *told)
{
	const char *zero = memchr(p, 0, (size_t) (end - p));
	const char *value = zero ? zero + 1 : end;

	if (memchr(value, 0, (size_t) (end - value)) &&
		!strcmp(p, CM_NOTICE_PARAMETER))
		heed(value, told);
}

/* The message of an ErrorResponse between p and end. */
static void
take_error(const char *p, const char *end, char *said, size_t size)
{
	while (p < end && *p)
	{
		char		field = *p++;
		const char *zero = memchr(p, 0, (size_t) (end - p));

		if (!zero)
			return;
		if (field == 'M')
		{
			snprintf(said, size, "%s", p);
			return;
		}
		p = zero + 1;
	}
}

/* Takes all that has come. */
News
news_take(int cm_socket, Told *told, char *said, size_t size)
{
	char		buffer[1 + 4 + MAX_NOTICE];
	ssize_t		n;

	while (peek(cm_socket, buffer, sizeof buffer, &n))
	{
		uint32_t	length;
		ssize_t		whole;

		if (n <= 0)
			return NEWS_CLOSED;
		if (buffer[0] != 'S')
		{
			if (buffer[0] == 'E' && n > 5)
				take_error(buffer + 5, buffer + n, said, size);
			return NEWS_ENDED;
		}
		if (n < 5)
			return unfinished(cm_socket);
		memcpy(&length, buffer + 1, 4);
		length = ntohl(length);
		if (length < 4 || length > 4 + MAX_NOTICE)
			return NEWS_ENDED;
		whole = 1 + (ssize_t) length;
		if (n < whole)
			return unfinished(cm_socket);
		take_notice(buffer + 5, buffer + whole, told);
		if (recv(cm_socket, buffer, (size_t) whole, MSG_DONTWAIT) != whole)
			return NEWS_ENDED;
	}
	return NEWS_NONE;
}

/*
 * What conmgr says of its own end begins so; of an instance it says "instance
 * ..." (docs/protocol.md 2.3).
 */
bool
says_own_end(const char *said)
{
	static const char own_end[] = "the Connection Manager ";

	return !strncmp(said, own_end, sizeof own_end - 1);
}
