/*
 * owner.h: whose process is at the other end of a socket, for trust.c.
 */
#ifndef OWNER_H
#define OWNER_H

#include <sys/types.h>

typedef enum OwnerState
{
	OWNER_KNOWN,				/* uid holds */
	OWNER_GONE,					/* it has closed its end: nobody answers for
								 * what it has said */
	OWNER_UNKNOWN				/* why holds */
} OwnerState;

typedef struct Owner
{
	OwnerState	state;
	uid_t		uid;			/* as this process's user namespace sees it */
	const char *why;
} Owner;

/*
 * Call it when something has been read from the socket: before that, a
 * connection may still lie in the listener's queue, where it is nobody's.
 */
Owner		owner_of_peer(int fd);

/* owner.c and ownerproc.c: the two ends of a TCP connection on this host */
typedef struct TcpPair
{
	int			family;			/* AF_INET also for IPv4 in a socket of IPv6 */
	unsigned char near[16];		/* this process's end */
	unsigned char far[16];
	unsigned short near_port;	/* network byte order, as the kernel has it */
	unsigned short far_port;
} TcpPair;

typedef enum OwnerFound
{
	FOUND, FOUND_NOT, FOUND_NO_WAY
} OwnerFound;

OwnerFound	owner_by_proc(const TcpPair *pair, Owner *owner);

#endif							/* OWNER_H */
