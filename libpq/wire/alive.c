/*
 * alive.c: while conmgr is away, nobody tells whether the server is still
 * there: TCP is to find out. Run under the watcher's lock; blocks on nothing.
 *
 * What the application has set itself is put back afterwards, and is not made
 * slower meanwhile.
 */
#include "link.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#define PROBES_A_GRACE 4		/* of an idle connection */

static int
get(int fd, int level, int option)
{
	int			value = 0;
	socklen_t	size = sizeof value;

	return getsockopt(fd, level, option, &value, &size) == 0 ? value : -1;
}

static void
set(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof value);
}

/* A server that is not heard of within that time, in ms, is gone. */
void
alive_watch(int sql_socket, int64_t within, Alive *before)
{
	int			limit = within > INT32_MAX ? INT32_MAX : (int) within;
	int			pause = limit / 1000 / PROBES_A_GRACE;

	before->keepalive = get(sql_socket, SOL_SOCKET, SO_KEEPALIVE);
	before->idle = get(sql_socket, IPPROTO_TCP, TCP_KEEPIDLE);
	before->interval = get(sql_socket, IPPROTO_TCP, TCP_KEEPINTVL);
	before->user_timeout = get(sql_socket, IPPROTO_TCP, TCP_USER_TIMEOUT);
	before->set = before->keepalive >= 0 && before->idle > 0 &&
		before->interval > 0 && before->user_timeout >= 0;
	if (!before->set)
		return;					/* no TCP */
	if (pause < 1)
		pause = 1;
	if (!before->keepalive || before->idle > pause)
		set(sql_socket, IPPROTO_TCP, TCP_KEEPIDLE, pause);
	if (!before->keepalive || before->interval > pause)
		set(sql_socket, IPPROTO_TCP, TCP_KEEPINTVL, pause);
	if (before->user_timeout == 0 || before->user_timeout > limit)
		set(sql_socket, IPPROTO_TCP, TCP_USER_TIMEOUT, limit);
	set(sql_socket, SOL_SOCKET, SO_KEEPALIVE, 1);
}

void
alive_leave(int sql_socket, Alive *before)
{
	if (!before->set)
		return;
	set(sql_socket, SOL_SOCKET, SO_KEEPALIVE, before->keepalive);
	set(sql_socket, IPPROTO_TCP, TCP_KEEPIDLE, before->idle);
	set(sql_socket, IPPROTO_TCP, TCP_KEEPINTVL, before->interval);
	set(sql_socket, IPPROTO_TCP, TCP_USER_TIMEOUT, before->user_timeout);
	before->set = false;
}
