/*
 * address.c: where something listens, by the string alone. Run by the
 * application's thread that connects; blocks on nothing.
 */
#include "link.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <strings.h>
#include <sys/un.h>

bool
host_is_tcp(const Host *h)
{
	if (h->hostaddr)
		return true;
	return h->host && h->host[0] != '/' && h->host[0] != '@';
}

/* No name but localhost is known without a look-up, and none is made. */
bool
host_is_loopback(const Host *h)
{
	const char *name = h->hostaddr ? h->hostaddr : h->host;
	struct in_addr v4;
	struct in6_addr v6;

	if (!host_is_tcp(h))
		return false;
	if (inet_pton(AF_INET, name, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) == 127;
	if (inet_pton(AF_INET6, name, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6) ||
			(IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
	return !h->hostaddr &&
		(!strcasecmp(name, "localhost") || !strcasecmp(name, "localhost."));
}

/* The port that is meant. */
const char *
host_port(const Host *h)
{
	return h->port ? h->port : "5432";
}

/* "": it cannot be told. */
void
address_text(const struct sockaddr *address, size_t len, char *out,
			 size_t size)
{
	if (getnameinfo(address, (socklen_t) len, out, (socklen_t) size, NULL, 0,
					NI_NUMERICHOST) != 0)
		*out = '\0';
}

/* The socket of that port in a directory, or in the abstract namespace. */
bool
socket_place(const Host *h, Place *place)
{
	struct sockaddr_un *a = (struct sockaddr_un *) &place->address;
	int			n = snprintf(a->sun_path, sizeof a->sun_path,
							 "%s/.s.PGSQL.%s", h->host, host_port(h));

	if (n < 0 || (size_t) n >= sizeof a->sun_path)
		return false;
	a->sun_family = AF_UNIX;
	place->size = offsetof(struct sockaddr_un, sun_path) + (socklen_t) n;
	if (a->sun_path[0] == '@')
		a->sun_path[0] = '\0';
	else
		place->size++;
	return true;
}
