/*
 * terminator.h
 *	  What the parts of the terminator worker share.
 *
 *	  terminator.c  the worker: requests from the slots, reports, the main loop
 *	  sessions.c    the pass over all sessions
 *	  leavers.c     who has to go in a drain
 */
#ifndef TERMINATOR_H
#define TERMINATOR_H

#include "watchdog.h"

#include <arpa/inet.h>

/* A verdict that is to be carried out. */
typedef struct Request
{
	const WatchdogSlot *slot;	/* a copy */
	uint32		index;			/* of the slot */
	uint32		verdict;		/* which one of that slot */
	bool		again;			/* it was carried out before */
	uint64		number;			/* 0: it is not among the last ones any more */
	bool		report_only;
	int			signaled;		/* or would have been */
	int			spared;
	char		ipaddress[INET6_ADDRSTRLEN];
} Request;

/* sessions.c */
extern void watchdog_end_sessions(const WatchdogSlots *slots,
								  Request *requests, int nrequests);
extern int	watchdog_end_again(void);
extern bool watchdog_end_session(WatchdogSession *row, uint32 pid,
								 uint64 verdict);

/* leavers.c */
extern int	watchdog_serve_drain(void);
extern int64 watchdog_next_leavers(void);

#endif							/* TERMINATOR_H */
