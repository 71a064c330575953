/*
 * floor.c: what heartbeats cost at the very least. Accepts connections; reads what comes on them, one read a packet, without a look at it; and writes to each,
 * every interval, a frame as long as a BEAT of the watchdog. No table, no deadlines, no shared memory. Usage: floor port interval_ms
 *
 * One thread, which blocks in epoll_wait. All connections have the same interval, so the one that is due first is always at the head of a queue.
 */
#define _GNU_SOURCE				/* accept4() */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS	512
#define MAX_FDS		(1 << 20)	/* a power of two */

typedef struct Beat
{
	int64_t		due;
	int			fd;
	unsigned	serial;			/* of the descriptor: it may have been closed, and used again */
} Beat;

static Beat queue[MAX_FDS];
static unsigned head,
			tail;
static unsigned serials[MAX_FDS];
static char buf[16384];
static const char frame[16] = {0, sizeof(frame), 3};

static int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void
must(int ok, const char *what)
{
	if (!ok)
	{
		perror(what);
		exit(1);
	}
}

static void
watch(int epfd, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	must(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
}

static void
say(int fd)
{
	if (send(fd, frame, sizeof(frame), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
	{
		/* reading will tell */
	}
}

int
main(int argc, char **argv)
{
	int			on = 1;
	int			listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int			epfd = epoll_create1(0);
	struct sockaddr_in addr = {.sin_family = AF_INET};
	struct rlimit files;
	int64_t		interval;

	if (argc != 3)
	{
		fprintf(stderr, "usage: floor port interval_ms\n");
		return 2;
	}
	addr.sin_port = htons(atoi(argv[1]));
	interval = atoi(argv[2]) * INT64_C(1000000);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	must(bind(listener, (struct sockaddr *) &addr, sizeof(addr)) == 0, "bind");
	must(listen(listener, 1024) == 0, "listen");
	watch(epfd, listener);
	for (;;)
	{
		struct epoll_event events[MAX_EVENTS];
		int64_t		t = now();
		int			wait = -1;
		int			n;

		if (head != tail)
			wait = queue[head % MAX_FDS].due <= t ? 0 : (queue[head % MAX_FDS].due - t + 999999) / 1000000;
		n = epoll_wait(epfd, events, MAX_EVENTS, wait);
		must(n >= 0 || errno == EINTR, "epoll_wait");
		t = now();
		for (int i = 0; i < n; i++)
		{
			int			fd = events[i].data.fd;

			if (fd == listener)
			{
				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
				{
					setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
					watch(epfd, fd);
					say(fd);
					queue[tail++ % MAX_FDS] = (Beat) {t + interval, fd, serials[fd]};
				}
				must(errno == EAGAIN, "accept");
			}
			else if (read(fd, buf, sizeof(buf)) <= 0)
			{
				close(fd);
				serials[fd]++;
			}
		}
		while (head != tail && queue[head % MAX_FDS].due <= t)
		{
			Beat		b = queue[head++ % MAX_FDS];

			if (serials[b.fd] != b.serial)
				continue;
			say(b.fd);
			b.due += interval;
			queue[tail++ % MAX_FDS] = b;
		}
	}
}
