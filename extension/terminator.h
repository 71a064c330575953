/*
 * terminator.h
 *	  What the parts of the terminator worker share.
 *
 *	  terminator.c  the worker: requests from the slots, reports, the main loop
 *	  sessions.c    the pass over all sessions
 *	  followups.c   requests that are looked at again
 */
#ifndef TERMINATOR_H
#define TERMINATOR_H

#include "watchdog.h"

#include <arpa/inet.h>

/* What has to end: the sessions of one address up to a cut-off. */
typedef struct Request
{
	uint8		addr[16];
	uint32		scope;
	TimestampTz cutoff;
	TimestampTz silence_cutoff; /* for sessions that end by silence only; 0:
								 * they are spared */
	uint8		cause;
	bool		first;			/* not a follow-up */
	int			signaled;
	int			spared;
	char		ipaddress[INET6_ADDRSTRLEN];
} Request;

/* terminator.c */
extern void watchdog_report(const Request *request);

/* sessions.c */
extern void watchdog_fold_loopback(uint8 *addr);
extern bool watchdog_same_host(const Request *request, const uint8 *addr,
							   uint32 scope);
extern void watchdog_end_sessions(Request *requests, int nrequests);

/* followups.c */
extern void watchdog_make_room_for_follow_ups(void);
extern void watchdog_follow_up(const Request *request);
extern long watchdog_serve_follow_ups(void);

#endif							/* TERMINATOR_H */
