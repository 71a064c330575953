/*
 * watcher.c: one thread per process that watches the sockets to conmgr, and
 * shuts an SQL connection down when its instance is lost, so that whoever
 * waits for it, in whatever call, gets an error at once.
 *
 * The thread is started with the first conmgr connection, has all signals
 * blocked, and blocks in epoll_wait() alone. It never touches a PGconn: it
 * hears what conmgr says (watch.c), and does shutdown(2) on a duplicate of the
 * SQL socket. The duplicate is ours: libpq may close its own at any moment,
 * and the number may then belong to someone else. Where a conmgr is away, the
 * thread is who connects to it again (resume.c).
 *
 * One mutex guards everything here; it is held for some system calls that do
 * not block. An epoll event names a slot and its age, never a pointer, so
 * that an event that comes late finds nothing. Whoever is told of a loss
 * takes no lock: the threads that wake up must not stand in the way of the
 * one that wakes the others.
 *
 * conmgr's sockets are watched by edges: what comes wakes the thread once,
 * whether it could be taken or not.
 *
 * After a fork the child has no watcher thread, and the epoll instance is
 * shared with the parent: the child drops it, and a connection that the child
 * goes on to use is adopted by a watcher of its own (watch_adopt).
 */
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

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
static bool absences;			/* a watch may be away */
static pthread_t thread;

/* ---- the thread; the lock is held ---- */

#define EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET)

/* Descriptors that being bound again may take, for all watches. */
#define MAX_ATTEMPTS 64

static bool
add_event(const Watch *w, int fd, uint32_t events)
{
	struct epoll_event event = {
		.events = events,
		.data.u64 = (uint64_t) slots[w->slot].age << 32 | w->slot
	};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/*
 * By hand, before it is closed: it stays in there as long as anybody has the
 * same file.
 */
static void
drop_event(int fd)
{
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static void
drop_attempt(const Watch *w)
{
	const CmLink *link = w->resume ? resume_link(w->resume) : NULL;

	if (link)
		drop_event(link_socket(link));
}

/* The next step of being bound again. */
static void
go_on(Watch *w, int64_t now)
{
	const CmLink *link;

	drop_attempt(w);
	resume_watch(w, now);
	if (!w->away)
	{
		if (!atomic_load(&w->lost))
			add_event(w, w->cm, EVENTS);
		return;
	}
	link = resume_link(w->resume);
	if (link)
		add_event(w, link_socket(link), link_is_writing(link) ? EPOLLOUT :
				  EPOLLIN | EPOLLRDHUP);
}

static void
woken_by(uint64_t event, int64_t now)
{
	uint32_t	slot = (uint32_t) event;
	Watch	   *w = slot < nslots ? slots[slot].watch : NULL;

	if (!w || slots[slot].age != (uint32_t) (event >> 32))
		return;
	hear(w, now);
	if (!w->away)
		return;
	absences = true;
	if (resume_link(w->resume))
		go_on(w, now);
	else
		drop_event(w->cm);		/* another one comes in its place */
}

/* One that would be an attempt too many waits for the end of another. */
static int64_t
due_of(const Watch *w, int attempts)
{
	return attempts < MAX_ATTEMPTS || resume_link(w->resume) ?
		resume_due(w->resume) : resume_deadline(w->resume);
}

/*
 * Takes the steps that are due, and says how long epoll_wait may wait for the
 * next ones.
 */
static int
take_steps(int64_t now)
{
	int64_t		next = INT64_MAX;
	int			attempts = 0;
	bool		away = false;

	if (!absences)
		return -1;
	for (uint32_t i = 0; i < nslots; i++)
		if (slots[i].watch && slots[i].watch->away)
			attempts += resume_knocks(slots[i].watch->resume);
	for (uint32_t i = 0; i < nslots; i++)
	{
		Watch	   *w = slots[i].watch;
		int64_t		due;

		if (!w || !w->away)
			continue;
		away = true;
		due = due_of(w, attempts);
		if (due <= now)
		{
			go_on(w, now);
			attempts += w->away && resume_knocks(w->resume);
		}
		if (w->away && (due = due_of(w, attempts)) < next)
			next = due;
	}
	absences = away;
	return next == INT64_MAX ? -1 : next <= now ? 0 :
		next - now > INT_MAX ? INT_MAX : (int) (next - now);
}

/* False: the thread is to end. */
static bool
take_events(const struct epoll_event *events, int n, int *timeout)
{
	int64_t		now = monotonic_ms();

	for (int i = 0; i < n; i++)
	{
		if (events[i].data.u64 == NO_SLOT)
			return false;
		woken_by(events[i].data.u64, now);
	}
	*timeout = take_steps(now);
	return true;
}

static void *
watch_thread(void *epoll)
{
	int			fd = (int) (intptr_t) epoll;
	struct epoll_event events[64];
	int			timeout = -1;
	bool		going = true;

	while (going)
	{
		int			n = epoll_wait(fd, events, 64, timeout);

		if (n < 0 && errno != EINTR)
			return NULL;
		pthread_mutex_lock(&lock);
		going = take_events(events, n, &timeout);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
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
	if (!add_event(w, w->cm, EVENTS))
		return false;
	first_free = slots[w->slot].next_free;
	slots[w->slot].watch = w;
	w->forks = fork_count;
	return true;
}

static void
leave_slot(Watch *w)
{
	if (epoll_fd >= 0)
	{
		drop_event(w->cm);
		drop_attempt(w);
	}
	slots[w->slot].watch = NULL;
	slots[w->slot].age++;
	slots[w->slot].next_free = first_free;
	first_free = w->slot;
}

/* ---- for watches.c ---- */

void
watcher_lock(void)
{
	pthread_mutex_lock(&lock);
}

void
watcher_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

/* Called with the lock held. NULL, or why it cannot be watched. */
const char *
watcher_add(Watch *w)
{
	const char *problem = start_thread();

	if (problem)
		return problem;
	if (!take_slot(w))
		return strerror(errno);
	absences |= w->away;
	return NULL;
}

/* Called with the lock held. */
void
watcher_remove(Watch *w)
{
	if (w->forks == fork_count) /* else it is in the parent's table */
		leave_slot(w);
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
	absences = false;
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
