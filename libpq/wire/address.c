/*
 * address.c: where something listens, by the string alone. Run by the
 * application's thread that connects; blocks on nothing.
 */
#include "wire.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <strings.h>

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
