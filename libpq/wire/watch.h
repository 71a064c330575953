/*
 * watch.h: the inside of a watch, for watch.c, which has what it does,
 * watcher.c, which has the lock and the thread, and watches.c, which has what
 * the application's threads may do. All under that lock.
 */
#ifndef WATCH_H
#define WATCH_H

#include <stdatomic.h>

#include "link.h"

struct Watch
{
	int			cm;				/* not ours: it is closed after watch_end.
								 * Another conmgr takes the number over */
	int			sql;			/* a duplicate, or -1 */
	uint32_t	slot;			/* in the table of watcher.c */
	unsigned	forks;			/* of the process whose watcher has it */
	Told		told;

	/* what the application is to notice */
	int			signal;			/* eventfd, readable if lost or untold; -1: it
								 * has not asked for it */
	atomic_bool untold;			/* told has changed since it has asked */
	bool		passed;			/* it has used the connection since then */

	/* conmgr is away */
	Resume	   *resume;			/* NULL: its end is a loss */
	bool		away;
	Alive		alive;			/* of sql, before that */

	atomic_bool lost;
	char		said[512];		/* written, and the socket shut down, before
								 * lost is set */
};

/* watcher.c */
void		watcher_lock(void);
void		watcher_unlock(void);
const char *watcher_add(Watch *w);
void		watcher_remove(Watch *w);

/* watch.c */
void		shut_sql(Watch *w);
void		hear(Watch *w, int64_t now);
void		resume_watch(Watch *w, int64_t now);
int			make_signal(Watch *w);
void		quiet_signal(Watch *w);
void		watch_free(Watch *w, bool quietly);

#endif							/* WATCH_H */
