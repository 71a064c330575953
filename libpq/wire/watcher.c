/*
 * watcher.c: one thread per process that watches the sockets to conmgr, and
 * shuts an SQL connection down when its instance is lost, so that whoever
 * waits for it, in whatever call, gets an error at once.
 *
 * The thread is started with the first conmgr connection, has all signals
 * blocked, and blocks in epoll_wait() alone. It never touches a PGconn: it
 * looks at the conmgr socket (news.c), notes what conmgr said, and does
 * shutdown(2) on a duplicate of the SQL socket. The duplicate is ours: libpq
 * may close its own at any moment, and the number may then belong to someone
 * else.
 *
 * One mutex guards everything here; it is held for some system calls that do
 * not block. An epoll event names a slot and its age, never a pointer, so
 * that an event that comes late finds nothing. Whoever is told of a loss
 * takes no lock: the threads that wake up must not stand in the way of the
 * one that wakes the others.
 *
 * After a fork the child has no watcher thread, and the epoll instance is
 * shared with the parent: the child drops it, and a connection that the child
 * goes on to use is adopted by a watcher of its own (watch_adopt).
 */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct Watch
{
	int			cm;				/* not ours: it is closed after watch_end */
	int			sql;			/* a duplicate, or -1 */
	uint32_t	slot;
	unsigned	forks;			/* of the process whose watcher has it */
	atomic_bool lost;
	char		said[512];		/* written, and the socket shut down, before
								 * lost is set */
};

typedef struct Slot
{
	Watch	   *watch;			/* NULL: free */
	uint32_t	age;
	uint32_t	next_free;
} Slot;

#define NO_SLOT UINT32_MAX

volatile unsigned fork_count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Slot *slots;
static uint32_t nslots;
static uint32_t first_free = NO_SLOT;
static int	epoll_fd = -1;
static int	end_fd = -1;		/* readable: the thread is to end */
static bool running;
static pthread_t thread;

/* ---- the loss ---- */

static void
shut(Watch *w)
{
	if (w->sql >= 0)
		shutdown(w->sql, SHUT_RDWR);
}

/* Called with the lock held. */
static void
look(Watch *w)
{
	if (atomic_load(&w->lost) || !news_read(w->cm, w->said, sizeof w->said))
		return;
	shut(w);

	/*
	 * Last, as it is read without the lock: whoever sees it finds the SQL
	 * socket shut down. Whoever does not, takes the lock (watch_look).
	 */
	atomic_store(&w->lost, true);
}

/* ---- the thread ---- */

/* Once: a socket that has told of a loss stays readable. */
#define EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLONESHOT)

/* Called with the lock held. */
static void
woken_by(uint64_t event)
{
	uint32_t	slot = (uint32_t) event;
	Watch	   *w = slot < nslots ? slots[slot].watch : NULL;
	struct epoll_event again = {
		.events = EVENTS,
		.data.u64 = event
	};

	if (!w || slots[slot].age != (uint32_t) (event >> 32))
		return;
	look(w);
	if (!atomic_load(&w->lost))
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, w->cm, &again);
}

static void *
watch_thread(void *epoll)
{
	int			fd = (int) (intptr_t) epoll;
	struct epoll_event events[64];

	for (;;)
	{
		int			n = epoll_wait(fd, events, 64, -1);

		if (n < 0 && errno != EINTR)
			return NULL;
		pthread_mutex_lock(&lock);
		for (int i = 0; i < n; i++)
		{
			if (events[i].data.u64 == NO_SLOT)
			{
				pthread_mutex_unlock(&lock);
				return NULL;
			}
			woken_by(events[i].data.u64);
		}
		pthread_mutex_unlock(&lock);
	}
}

static void
close_watcher(void)
{
	if (epoll_fd >= 0)
		close(epoll_fd);
	if (end_fd >= 0)
		close(end_fd);
	epoll_fd = end_fd = -1;
	running = false;
}

/* Called with the lock held. NULL, or why it could not be started. */
static const char *
start_thread(void)
{
	struct epoll_event end = {
		.events = EPOLLIN,
		.data.u64 = NO_SLOT
	};
	pthread_attr_t attr;
	sigset_t	all;
	sigset_t	old;
	int			error;

	if (running)
		return NULL;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (epoll_fd < 0 || end_fd < 0 ||
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, end_fd, &end) < 0)
	{
		error = errno;
		close_watcher();
		return strerror(error);
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	error = pthread_create(&thread, &attr, watch_thread,
						   (void *) (intptr_t) epoll_fd);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (error)
	{
		close_watcher();
		return strerror(error);
	}
	running = true;
	return NULL;
}

/* ---- slots; the lock is held ---- */

static bool
take_slot(Watch *w)
{
	struct epoll_event event = {.events = EVENTS};

	if (first_free == NO_SLOT)
	{
		uint32_t	n = nslots ? nslots * 2 : 16;
		Slot	   *bigger = realloc(slots, n * sizeof *slots);

		if (!bigger)
			return false;
		slots = bigger;
		for (uint32_t i = n; i-- > nslots;)
		{
			slots[i].watch = NULL;
			slots[i].age = 0;
			slots[i].next_free = first_free;
			first_free = i;
		}
		nslots = n;
	}
	w->slot = first_free;
	event.data.u64 = (uint64_t) slots[w->slot].age << 32 | w->slot;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, w->cm, &event) < 0)
		return false;
	first_free = slots[w->slot].next_free;
	slots[w->slot].watch = w;
	w->forks = fork_count;
	return true;
}

static void
leave_slot(Watch *w)
{
	if (w->forks != fork_count)
		return;					/* in the parent's table */
	if (epoll_fd >= 0)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, w->cm, NULL);
	slots[w->slot].watch = NULL;
	slots[w->slot].age++;
	slots[w->slot].next_free = first_free;
	first_free = w->slot;
}

/* ---- for the application's threads ---- */

Watch *
watch_start(int cm_socket, int sql_socket, const char **problem)
{
	Watch	   *w = calloc(1, sizeof *w);

	*problem = "out of memory";
	if (!w)
		return NULL;
	w->cm = cm_socket;
	w->sql = fcntl(sql_socket, F_DUPFD_CLOEXEC, 0);
	if (w->sql < 0)
		*problem = strerror(errno);
	else
	{
		pthread_mutex_lock(&lock);
		*problem = start_thread();
		if (!*problem && !take_slot(w))
			*problem = strerror(errno);
		pthread_mutex_unlock(&lock);
		if (!*problem)
			return w;
		close(w->sql);
	}
	free(w);
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
	pthread_mutex_lock(&lock);
	old = w->sql;
	w->sql = fresh;
	if (atomic_load(&w->lost))
		shut(w);
	pthread_mutex_unlock(&lock);
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
	pthread_mutex_lock(&lock);
	if (w->forks != fork_count && !atomic_load(&w->lost) && !start_thread())
		take_slot(w);
	pthread_mutex_unlock(&lock);
}

/*
 * What the thread would do, now: the application has been told by
 * PQcmSocket(), and may be faster than the thread.
 */
bool
watch_look(Watch *w)
{
	if (!atomic_load(&w->lost))
	{
		pthread_mutex_lock(&lock);
		look(w);
		pthread_mutex_unlock(&lock);
	}
	return atomic_load(&w->lost);
}

/*
 * The same before a query is sent, for which this must cost nothing: no lock
 * (the socket is the caller's), and a system call (0.2 us) only for an
 * application that polls the same socket itself. Others learn of a loss from
 * the watcher.
 */
bool
watch_glance(Watch *w, bool asked)
{
	if (!atomic_load(&w->lost) && !(asked && news_come(w->cm)))
		return false;
	return watch_look(w);
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

	pthread_mutex_lock(&lock);
	old = w->sql;
	w->sql = -1;
	pthread_mutex_unlock(&lock);
	if (old >= 0)
		close(old);
}

void
watch_end(Watch *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&lock);
	leave_slot(w);
	pthread_mutex_unlock(&lock);
	if (w->sql >= 0)
		close(w->sql);
	free(w);
}

/* ---- fork, and the end of the process ---- */

static void
before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void
after_fork_in_parent(void)
{
	pthread_mutex_unlock(&lock);
}

static void
after_fork_in_child(void)
{
	fork_count++;
	close_watcher();
	for (uint32_t i = 0; i < nslots; i++)
	{
		slots[i].watch = NULL;
		slots[i].age++;
		slots[i].next_free = i + 1 < nslots ? i + 1 : NO_SLOT;
	}
	first_free = nslots ? 0 : NO_SLOT;
	pthread_mutex_unlock(&lock);
}

static void watcher_load(void) __attribute__((constructor));
static void watcher_unload(void) __attribute__((destructor));

static void
watcher_load(void)
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/*
 * exit(): ends the thread. Not if another thread, or this one below a signal
 * handler, is in the middle of something.
 */
static void
watcher_unload(void)
{
	struct timespec limit;
	uint64_t	one = 1;

	if (pthread_mutex_trylock(&lock) != 0)
		return;
	if (!running || write(end_fd, &one, sizeof one) != (ssize_t) sizeof one)
	{
		pthread_mutex_unlock(&lock);
		return;
	}
	pthread_mutex_unlock(&lock);
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec++;
	if (pthread_timedjoin_np(thread, NULL, &limit) != 0)
		return;
	pthread_mutex_lock(&lock);
	close_watcher();
	for (uint32_t i = 0; i < nslots; i++)
		if (slots[i].watch)
		{
			/* a connection that was never finished still counts on its slot */
			pthread_mutex_unlock(&lock);
			return;
		}
	free(slots);
	slots = NULL;
	nslots = 0;
	first_free = NO_SLOT;
	pthread_mutex_unlock(&lock);
}
