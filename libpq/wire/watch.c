/*
 * watch.c: what a watch does: it hears what conmgr says (news.c), shuts the
 * SQL connection down when the instance is lost, is bound again when conmgr
 * was away (resume.c), and tells the application. Run by the watcher thread
 * (watcher.c) and the application's threads (watches.c), under the watcher's
 * lock; blocks on nothing.
 *
 * What the application polls (PQcmSocket) is an eventfd, not conmgr's socket:
 * that one becomes readable by what is no loss, too, a notice or the end of a
 * conmgr that comes back, and is another one then. The eventfd is readable
 * when the SQL socket has been shut down: who has seen it sends nothing any
 * more. It stays the same, also for epoll, which knows the file and not its
 * number.
 */
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int64_t
monotonic_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the application's signal ---- */

/* An eventfd that is not read takes any number of these. */
static void
raise_signal(Watch *w)
{
	if (w->signal >= 0)
		eventfd_write(w->signal, 1);
}

/* -1: no descriptor is left. */
int
make_signal(Watch *w)
{
	if (w->signal < 0)
		w->signal = eventfd(atomic_load(&w->lost) || atomic_load(&w->untold),
							EFD_CLOEXEC | EFD_NONBLOCK);
	return w->signal;
}

/* What was told is known; a loss stays. */
void
quiet_signal(Watch *w)
{
	eventfd_t	count;

	atomic_store(&w->untold, false);
	if (w->signal >= 0 && !atomic_load(&w->lost))
		eventfd_read(w->signal, &count);
}

/* ---- what conmgr says ---- */

void
shut_sql(Watch *w)
{
	if (w->sql >= 0)
		shutdown(w->sql, SHUT_RDWR);
}

static void
lose(Watch *w)
{
	w->away = false;
	resume_free(w->resume, false);
	w->resume = NULL;
	shut_sql(w);

	/*
	 * After that, as it is read without the lock: whoever sees it finds the
	 * SQL socket shut down. Whoever does not, takes the lock (watch_look).
	 */
	atomic_store(&w->lost, true);
	raise_signal(w);
}

/* Its connection has ended without a word on the instance. */
static void
go_away(Watch *w, int64_t now)
{
	int64_t		within = w->told.away;

	if (within < 0 && w->resume)
		within = resume_grace(w->resume);
	if (!w->resume || within <= 0)
	{
		lose(w);
		return;
	}
	w->away = true;
	w->told.away = -1;
	resume_begin(w->resume, now, within);
	alive_watch(w->sql, within, &w->alive);
}

/* Takes what has come on conmgr's socket, if anything. */
void
hear(Watch *w, int64_t now)
{
	bool		before = w->told.draining || w->told.role;
	bool		after;
	News		news;

	if (w->away || atomic_load(&w->lost))
		return;
	news = news_take(w->cm, &w->told, w->said, sizeof w->said);
	after = w->told.draining || w->told.role;
	if (after && !before)
	{
		w->passed = false;
		atomic_store(&w->untold, true);
		raise_signal(w);
	}
	else if (before && !after)
		quiet_signal(w);
	if (news == NEWS_ENDED)
		lose(w);
	else if (news == NEWS_CLOSED)
		go_away(w, now);
}

/* ---- while conmgr is away ---- */

/* Another process of conmgr has bound this. */
static void
come_back(Watch *w, int64_t now)
{
	CmLink	   *link = resume_link(w->resume);
	Resume	   *next;

	if (dup3(link->fd, w->cm, O_CLOEXEC) < 0)
	{
		resume_anew(w->resume, now);
		return;
	}
	next = resume_of(link);		/* by the word that this one has given */
	resume_free(w->resume, true);
	w->resume = next;
	w->away = false;
	alive_leave(w->sql, &w->alive);
	hear(w, now);
}

/* What is to be done by now to be bound again. */
void
resume_watch(Watch *w, int64_t now)
{
	if (!w->away)
		return;
	switch (resume_step(w->resume, now, w->said, sizeof w->said))
	{
		case RESUME_WAITS:
			break;
		case RESUME_BOUND:
			come_back(w, now);
			break;
		case RESUME_LOST:
			lose(w);
			break;
	}
}

/* Quietly: what there is of it is the parent's, too. */
void
watch_free(Watch *w, bool quietly)
{
	resume_free(w->resume, quietly);
	if (w->sql >= 0)
		close(w->sql);
	if (w->signal >= 0)
		close(w->signal);
	free(w);
}
