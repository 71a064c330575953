/*
 * watches.c: watches as the application's threads use them: one for each SQL
 * connection that was made by way of conmgr. Blocks on the watcher's lock
 * alone, which nobody holds for long.
 */
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The link has its target, and stays as long as the watch. */
Watch *
watch_start(const CmLink *link, int sql_socket, const char **problem)
{
	Watch	   *w = calloc(1, sizeof *w);

	*problem = "out of memory";
	if (!w)
		return NULL;
	w->cm = link_socket(link);
	w->signal = -1;
	w->told.away = -1;
	w->resume = resume_of(link);
	w->sql = fcntl(sql_socket, F_DUPFD_CLOEXEC, 0);
	if (w->sql < 0)
		*problem = strerror(errno);
	else
	{
		watcher_lock();
		*problem = watcher_add(w);
		watcher_unlock();
		if (!*problem)
			return w;
	}
	watch_free(w, true);
	return NULL;
}

/* The real libpq has opened another socket. */
bool
watch_move(Watch *w, int sql_socket)
{
	int			fresh = fcntl(sql_socket, F_DUPFD_CLOEXEC, 0);
	int			old;

	if (fresh < 0)
		return false;
	watcher_lock();
	old = w->sql;
	w->sql = fresh;
	if (atomic_load(&w->lost))
		shut_sql(w);
	watcher_unlock();
	if (old >= 0)
		close(old);
	return true;
}

/*
 * In a child that goes on to use a connection of its parent. Without a thread
 * it is as good as a connection without conmgr.
 */
void
watch_adopt(Watch *w)
{
	watcher_lock();
	if (w->forks != fork_count && !atomic_load(&w->lost))
	{
		if (w->away)
			resume_anew(w->resume, monotonic_ms());
		watcher_add(w);			/* the end of w->cm wakes the thread, too */
	}
	watcher_unlock();
}

/*
 * What the thread would do, now: is it lost? While connecting, and when the
 * SQL connection has failed, the thread may not have come to it yet.
 */
bool
watch_look(Watch *w)
{
	if (!atomic_load(&w->lost))
	{
		watcher_lock();
		hear(w, monotonic_ms());
		watcher_unlock();
	}
	return atomic_load(&w->lost);
}

/* Is conmgr away? */
bool
watch_is_away(Watch *w)
{
	bool		away;

	watcher_lock();
	away = w->away;
	watcher_unlock();
	return away;
}

/* For the application to poll; -1: no descriptor is left. */
int
watch_signal(Watch *w)
{
	int			fd;

	watcher_lock();
	fd = make_signal(w);
	watcher_unlock();
	return fd;
}

/* Has conmgr said that the connection is to be given up? */
bool
watch_draining(Watch *w)
{
	bool		draining;

	watcher_lock();
	hear(w, monotonic_ms());
	draining = w->told.draining || w->told.role;
	quiet_signal(w);
	watcher_unlock();
	return draining;
}

/*
 * The application has been woken by its signal, and does what it would do on
 * a loss: it may not know of watch_draining(), and must not be woken for ever.
 * The first time, this may be by chance: it has its signal yet to see.
 */
void
watch_used(Watch *w)
{
	if (!atomic_load(&w->untold))
		return;
	watcher_lock();
	if (w->passed)
		quiet_signal(w);
	w->passed = w->signal >= 0;
	watcher_unlock();
}

const char *
watch_said(const Watch *w)
{
	return w->said;
}

/*
 * libpq has closed the SQL connection, for a reason of its own: the server is
 * to see that, although we hold a duplicate.
 */
void
watch_drop_sql(Watch *w)
{
	int			old;

	watcher_lock();
	old = w->sql;
	w->sql = -1;
	watcher_unlock();
	if (old >= 0)
		close(old);
}

void
watch_end(Watch *w)
{
	if (!w)
		return;
	watcher_lock();
	watcher_remove(w);
	watcher_unlock();
	watch_free(w, w->forks != fork_count);
}
