/*
 * owners.c: what owner.c, with which this is linked, makes of the peer of a
 * connection that is not accepted yet, is accepted by user 1, is closed by
 * it, and is forgotten but for its ports, as the kernel has it then: root's.
 * As root; usage: owners.
 */
#include "wire/owner.h"
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static TcpPair pair;

static void
tell(int fd, const char *when)
{
	static const char *const names[] = {"known", "gone", "unknown"};
	Owner		netlink = owner_of_peer(fd);
	Owner		proc = {OWNER_UNKNOWN, 0, NULL};

	CHECK(owner_by_proc(&pair, &proc) == FOUND);
	printf("%s: %s, %s", when, names[netlink.state], names[proc.state]);
	if (netlink.state == OWNER_KNOWN)
		printf(": %d %d", (int) netlink.uid, (int) proc.uid);
	printf("\n");
}

int
main(void)
{
	struct sockaddr_in far = {.sin_family = AF_INET};
	struct sockaddr_in near;
	socklen_t	size = sizeof far;
	int			listener = socket(AF_INET, SOCK_STREAM, 0);
	int			fd = socket(AF_INET, SOCK_STREAM, 0);
	int			peer;
	Owner		owner = {OWNER_UNKNOWN, 1, NULL};

	far.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(listener, (struct sockaddr *) &far, size) == 0);
	CHECK(listen(listener, 1) == 0);
	CHECK(getsockname(listener, (struct sockaddr *) &far, &size) == 0);
	CHECK(connect(fd, (struct sockaddr *) &far, size) == 0);
	CHECK(getsockname(fd, (struct sockaddr *) &near, &size) == 0);
	pair.family = AF_INET;
	memcpy(pair.near, &near.sin_addr, 4);
	memcpy(pair.far, &far.sin_addr, 4);
	pair.near_port = near.sin_port;
	pair.far_port = far.sin_port;

	tell(fd, "queued");
	CHECK(seteuid(1) == 0);
	peer = accept(listener, NULL, NULL);
	CHECK(seteuid(0) == 0);
	tell(fd, "accepted");
	close(peer);
	tell(fd, "closed");
	for (int i = 0; owner.uid != 0 && i < 500; i++)
	{
		poll(NULL, 0, 10);
		CHECK(owner_by_proc(&pair, &owner) == FOUND);
	}
	CHECK(owner.uid == 0);
	tell(fd, "forgotten");
	return 0;
}
