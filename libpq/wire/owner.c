/*
 * owner.c: whose process is at the other end of a socket. Run by the
 * application's thread that connects; blocks on nothing but the kernel's
 * answer, which is there when the question has been put (some 20 us).
 *
 * Unix sockets: SO_PEERCRED, the credentials of whoever called listen().
 *
 * TCP on this host: the kernel is asked for the peer's own socket, by
 * NETLINK_SOCK_DIAG, which needs no privilege: the connection's addresses and
 * ports in the peer's order. The owner is the user that accept() ran as
 * (fsuid): a socket that is passed or inherited stays its creator's. Only a
 * socket that is ESTABLISHED and has an inode has an owner. One without an
 * inode is not accepted yet, or closed already, and shows as root's.
 *
 * A look-up goes by the interface, too, for a socket that is bound to one: it
 * is tried without, and with the loopback interface, by which all traffic of
 * a host with itself goes. What netlink cannot tell, /proc/net/tcp may
 * (ownerproc.c): where a sandbox forbids netlink, or the kernel lacks it.
 */
#include "owner.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOPBACK_INDEX 1		/* of each network namespace's interface lo */

/* ---- the two ends ---- */

static void
end_of(const struct sockaddr_storage *from, int *family,
	   unsigned char *address, unsigned short *port)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *) from;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) from;

	*family = from->ss_family;
	memset(address, 0, 16);
	if (from->ss_family == AF_INET)
	{
		memcpy(address, &v4->sin_addr, 4);
		*port = v4->sin_port;
		return;
	}
	*port = v6->sin6_port;
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
	{
		*family = AF_INET;
		memcpy(address, v6->sin6_addr.s6_addr + 12, 4);
	}
	else
		memcpy(address, &v6->sin6_addr, 16);
}

/* 0: none. */
static int
family_of(int fd, struct sockaddr_storage *near, struct sockaddr_storage *far)
{
	socklen_t	near_size = sizeof *near;
	socklen_t	far_size = sizeof *far;

	if (getsockname(fd, (struct sockaddr *) near, &near_size) < 0)
		return 0;
	/* an abstract or unnamed Unix socket has a family and no more */
	if (near->ss_family != AF_UNIX &&
		getpeername(fd, (struct sockaddr *) far, &far_size) < 0)
		return 0;
	return near->ss_family;
}

/* ---- netlink ---- */

static OwnerFound
understand(const char *answer, ssize_t n, const TcpPair *pair, Owner *owner)
{
	const struct nlmsghdr *head = (const struct nlmsghdr *) answer;
	const struct inet_diag_msg *m = NLMSG_DATA(head);

	if (n < (ssize_t) sizeof *head || head->nlmsg_len > (size_t) n)
		return FOUND_NO_WAY;
	if (head->nlmsg_type == NLMSG_ERROR &&
		head->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr)))
	{
		const struct nlmsgerr *e = NLMSG_DATA(head);

		/* also of a kernel that has no TCP diagnosis at all */
		return e->error == -ENOENT ? FOUND_NOT : FOUND_NO_WAY;
	}
	if (head->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
		head->nlmsg_len < NLMSG_LENGTH(sizeof *m))
		return FOUND_NO_WAY;
	/* the listener is found in place of a connection that is no more */
	if (m->idiag_state == TCP_LISTEN || m->id.idiag_dport != pair->near_port)
		return FOUND_NOT;
	owner->state = m->idiag_state == TCP_ESTABLISHED && m->idiag_inode ?
		OWNER_KNOWN : OWNER_GONE;
	owner->uid = m->idiag_uid;
	return FOUND;
}

static OwnerFound
ask(int netlink, const TcpPair *pair, unsigned interface, Owner *owner)
{
	struct
	{
		struct nlmsghdr head;
		struct inet_diag_req_v2 body;
	}			question;
	union
	{
		struct nlmsghdr aligned;
		char		bytes[1024];
	}			answer;
	struct sockaddr_nl from;
	socklen_t	size = sizeof from;
	ssize_t		n;

	memset(&question, 0, sizeof question);
	question.head.nlmsg_len = sizeof question;
	question.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
	question.head.nlmsg_flags = NLM_F_REQUEST;
	question.body.sdiag_family = (unsigned char) pair->family;
	question.body.sdiag_protocol = IPPROTO_TCP;
	question.body.idiag_states = -1;
	question.body.id.idiag_sport = pair->far_port;
	question.body.id.idiag_dport = pair->near_port;
	memcpy(question.body.id.idiag_src, pair->far, 16);
	memcpy(question.body.id.idiag_dst, pair->near, 16);
	question.body.id.idiag_if = interface;
	question.body.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
	question.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	do
		n = send(netlink, &question, sizeof question, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return FOUND_NO_WAY;
	do
		n = recvfrom(netlink, &answer, sizeof answer, MSG_DONTWAIT,
					 (struct sockaddr *) &from, &size);
	while (n < 0 && errno == EINTR);
	if (n < 0 || size != sizeof from || from.nl_pid != 0)
		return FOUND_NO_WAY;	/* not the kernel's */
	return understand(answer.bytes, n, pair, owner);
}

static OwnerFound
owner_by_netlink(const TcpPair *pair, Owner *owner)
{
	int			netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC,
								 NETLINK_SOCK_DIAG);
	OwnerFound	found;

	if (netlink < 0)
		return FOUND_NO_WAY;
	found = ask(netlink, pair, 0, owner);
	if (found == FOUND_NOT)
		found = ask(netlink, pair, LOOPBACK_INDEX, owner);
	close(netlink);
	return found;
}

/* ---- TCP ---- */

/* Only an address of this network namespace can be bound to. */
static bool
is_elsewhere(const struct sockaddr_storage *far)
{
	struct sockaddr_storage a = *far;
	int			on = 1;
	int			fd;
	bool		elsewhere;

	((struct sockaddr_in *) &a)->sin_port = 0;
	fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
	elsewhere = bind(fd, (struct sockaddr *) &a, a.ss_family == AF_INET ?
					 sizeof(struct sockaddr_in) :
					 sizeof(struct sockaddr_in6)) < 0 &&
		errno == EADDRNOTAVAIL;
	close(fd);
	return elsewhere;
}

static bool
still_established(int fd)
{
	struct tcp_info info;
	socklen_t	size = sizeof info;

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 ||
		info.tcpi_state == TCP_ESTABLISHED;
}

static Owner
owner_by_tcp(int fd, const struct sockaddr_storage *near,
			 const struct sockaddr_storage *far)
{
	Owner		owner = {OWNER_UNKNOWN, 0, NULL};
	TcpPair		pair;
	OwnerFound	netlink;
	OwnerFound	proc;
	int			family;

	end_of(near, &family, pair.near, &pair.near_port);
	end_of(far, &pair.family, pair.far, &pair.far_port);
	netlink = owner_by_netlink(&pair, &owner);
	if (netlink == FOUND)
		return owner;
	if (is_elsewhere(far))
	{
		owner.why = "it is on another host, or in another network namespace";
		return owner;
	}
	proc = owner_by_proc(&pair, &owner);
	if (proc == FOUND)
		return owner;
	if (!still_established(fd))
		owner.state = OWNER_GONE;
	else
		owner.why = netlink == FOUND_NO_WAY && proc == FOUND_NO_WAY ?
			"neither netlink nor /proc/net/tcp can be used" :
			"it is in another network namespace";
	return owner;
}

Owner
owner_of_peer(int fd)
{
	Owner		owner = {OWNER_UNKNOWN, 0, "its socket is of another kind"};
	struct sockaddr_storage near;
	struct sockaddr_storage far;
	struct ucred cred;
	socklen_t	size = sizeof cred;

	switch (family_of(fd, &near, &far))
	{
		case AF_UNIX:
			if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) == 0)
			{
				owner.state = OWNER_KNOWN;
				owner.uid = cred.uid;
			}
			break;
		case AF_INET:
		case AF_INET6:
			return owner_by_tcp(fd, &near, &far);
		case 0:
			owner.state = OWNER_GONE;
			break;
		default:
			break;
	}
	return owner;
}
