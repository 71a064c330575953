/*
 * canned.c: what a connect by the front costs at the very least. Hands the first client's
 * conversation on to a conmgr, and keeps its answers; every later client gets these, one send for
 * each receive. It is never told of a loss. Usage: canned port conmgr_port
 */
#define _GNU_SOURCE				/* accept4() */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_EVENTS	64
#define MAX_FDS		4096

typedef struct Text
{
	char		bytes[16384];
	size_t		size;
} Text;

static Text greeting,
			answer,
			both;				/* for whose question comes with the startup */
static char greeted[MAX_FDS];

static void
must(int ok, const char *what)
{
	if (!ok)
	{
		perror(what);
		exit(1);
	}
}

static struct sockaddr_in
loopback(const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(atoi(port))};

	return a;
}

static uint32_t
word(const char *p)
{
	uint32_t	n;

	memcpy(&n, p, sizeof(n));
	return ntohl(n);
}

/* until the ReadyForQuery, which is the last thing in it */
static void
keep(int fd, Text *t)
{
	size_t		at = 0;

	for (;;)
	{
		ssize_t		n = recv(fd, t->bytes + t->size, sizeof(t->bytes) - t->size, 0);

		must(n > 0, "conmgr");
		t->size += n;
		while (t->size - at >= 5 && t->size - at >= 1 + word(t->bytes + at + 1))
		{
			at += 1 + word(t->bytes + at + 1);
			if (t->bytes[at - 6] == 'Z')
				return;
		}
	}
}

/* sends the whole, which is short */
static void
say(int fd, const Text *t)
{
	must(send(fd, t->bytes, t->size, MSG_NOSIGNAL) == (ssize_t) t->size, "send");
}

static void
first(int listener, const char *conmgr_port)
{
	int			client = accept(listener, NULL, NULL);
	int			conmgr = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in addr = loopback(conmgr_port);
	Text	   *texts[] = {&greeting, &answer};
	char		end;

	while (recv(client, &end, 1, MSG_PEEK) == 0)	/* who looks whether somebody listens */
	{
		close(client);
		client = accept(listener, NULL, NULL);
	}
	must(connect(conmgr, (struct sockaddr *) &addr, sizeof(addr)) == 0, "connect");
	for (int i = 0; i < 2; i++)
	{
		char		buf[4096];
		ssize_t		n = recv(client, buf, sizeof(buf), 0);

		must(n > 0 && send(conmgr, buf, n, 0) == n, "first conversation");
		keep(conmgr, texts[i]);
		say(client, texts[i]);
	}
	both = greeting;
	must(both.size + answer.size <= sizeof(both.bytes), "long answers");
	memcpy(both.bytes + both.size, answer.bytes, answer.size);
	both.size += answer.size;
	while (recv(client, &end, 1, 0) > 0)	/* until it has done with it */
		;
	close(conmgr);
	close(client);
}

int
main(int argc, char **argv)
{
	int			on = 1;
	int			listener = socket(AF_INET, SOCK_STREAM, 0);
	int			epfd = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	struct sockaddr_in addr;

	if (argc != 3)
	{
		fprintf(stderr, "usage: canned port conmgr_port\n");
		return 2;
	}
	addr = loopback(argv[1]);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	must(bind(listener, (struct sockaddr *) &addr, sizeof(addr)) == 0, "bind");
	must(listen(listener, 1024) == 0, "listen");
	first(listener, argv[2]);
	ev.data.fd = listener;
	must(epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &ev) == 0, "epoll_ctl");
	for (;;)
	{
		struct epoll_event events[MAX_EVENTS];
		int			n = epoll_wait(epfd, events, MAX_EVENTS, -1);

		for (int i = 0; i < n; i++)
		{
			int			fd = events[i].data.fd;
			char		buf[4096];
			ssize_t		size;

			if (fd == listener)
			{
				fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
				must(fd >= 0 && fd < MAX_FDS, "accept");
				setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
				greeted[fd] = 0;
				ev.data.fd = fd;
				must(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
				continue;
			}
			size = recv(fd, buf, sizeof(buf), 0);
			if (size <= 0 || buf[0] == 'X')
			{
				close(fd);
				continue;
			}
			if (greeted[fd])
				say(fd, &answer);
			else if (size > 4 && (size_t) size > word(buf))
				say(fd, &both);
			else
				say(fd, &greeting);
			greeted[fd] = 1;
		}
	}
}
