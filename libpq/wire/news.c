/*
 * news.c: a bound conmgr connection is silent: whatever can be read from it
 * is the news of a loss. Run by the watcher thread and the application's
 * threads; blocks on nothing.
 *
 * Nothing is taken out of the socket (MSG_PEEK): it stays readable for an
 * application that polls PQcmSocket().
 */
#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

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

bool
news_come(int cm_socket)
{
	char		byte;
	ssize_t		n;

	return peek(cm_socket, &byte, 1, &n);
}

/*
 * True: there are news, and said has the message of the ErrorResponse if there
 * is one.
 */
bool
news_read(int cm_socket, char *said, size_t size)
{
	char		buffer[2048];
	const char *p = buffer + 5;
	const char *end;
	ssize_t		n;

	if (!peek(cm_socket, buffer, sizeof buffer, &n))
		return false;
	end = buffer + (n > 0 ? n : 0);
	while (n >= 6 && buffer[0] == 'E' && p < end && *p)
	{
		char		field = *p++;
		const char *zero = memchr(p, 0, (size_t) (end - p));

		if (!zero)
			break;
		if (field == 'M')
		{
			snprintf(said, size, "%s", p);
			break;
		}
		p = zero + 1;
	}
	return true;
}
