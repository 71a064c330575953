/*
 * ownerproc.c: the owner of a TCP socket by /proc/net/tcp and tcp6, which list
 * all sockets of the network namespace. Run by the application's thread that
 * connects, only if netlink could not tell; blocks on reading these files
 * alone (half a millisecond for each thousand sockets).
 */
#include "owner.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* An address as the files have it: words of the host's byte order, in hex. */
static void
hex_address(const unsigned char *address, int words, bool mapped, char *out)
{
	uint32_t	word;

	if (mapped)
	{
		out += sprintf(out, "%08X%08X%08X", 0U, 0U, htonl(0xffff));
		words = 1;
	}
	for (int i = 0; i < words; i++)
	{
		memcpy(&word, address + 4 * i, 4);
		out += sprintf(out, "%08X", word);
	}
}

/* True: the peer's line is there. */
static bool
search(FILE *file, const char *far, const char *near, Owner *owner)
{
	char		line[512];
	char		local[64];
	char		remote[64];
	unsigned	state;
	unsigned	uid;
	unsigned long inode;

	while (fgets(line, sizeof line, file))
	{
		if (sscanf(line, "%*s %63s %63s %x %*s %*s %*s %u %*s %lu",
				   local, remote, &state, &uid, &inode) != 5 ||
			strcmp(local, far) != 0 || strcmp(remote, near) != 0)
			continue;
		owner->state = state == TCP_ESTABLISHED && inode != 0 ?
			OWNER_KNOWN : OWNER_GONE;
		owner->uid = uid;
		return true;
	}
	return false;
}

static OwnerFound
search_in(const char *path, const TcpPair *pair, bool mapped, Owner *owner)
{
	int			words = pair->family == AF_INET ? 1 : 4;
	FILE	   *file = fopen(path, "re");
	char		far[64];
	char		near[64];
	bool		found;

	if (!file)
		return FOUND_NO_WAY;
	hex_address(pair->far, words, mapped, far);
	hex_address(pair->near, words, mapped, near);
	sprintf(far + strlen(far), ":%04X", ntohs(pair->far_port));
	sprintf(near + strlen(near), ":%04X", ntohs(pair->near_port));
	found = search(file, far, near, owner);
	fclose(file);
	return found ? FOUND : FOUND_NOT;
}

/* The peer's socket of IPv4 may be one of IPv6 that takes both. */
OwnerFound
owner_by_proc(const TcpPair *pair, Owner *owner)
{
	static const char tcp[] = "/proc/thread-self/net/tcp";
	static const char tcp6[] = "/proc/thread-self/net/tcp6";
	OwnerFound	found = FOUND_NOT;

	if (pair->family == AF_INET)
	{
		found = search_in(tcp, pair, false, owner);
		if (found == FOUND)
			return found;
	}
	if (search_in(tcp6, pair, pair->family == AF_INET, owner) == FOUND)
		return FOUND;
	return found;
}
