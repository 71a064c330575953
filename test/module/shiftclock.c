/*
 * shiftclock.c
 *	  A library for tests, for LD_PRELOAD: the wall clock of a process is off
 *	  by so many nanoseconds as a file says, the name of which is in
 *	  WATCHDOG_TEST_CLOCK: eight bytes, which may change at any time.
 *
 * Runs in every process of a test's server. The file is mapped once, before
 * main(); nothing here blocks.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t *shift;

__attribute__((constructor))
static void
map_file(void)
{
	const char *name = getenv("WATCHDOG_TEST_CLOCK");
	int			fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	void	   *p;

	if (fd < 0)
		return;
	p = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		shift = p;
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	int			rc = syscall(SYS_clock_gettime, id, ts);
	int64_t		ns;

	if (rc != 0 || shift == NULL ||
		(id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE))
		return rc;
	ns = ts->tv_sec * INT64_C(1000000000) + ts->tv_nsec +
		__atomic_load_n(shift, __ATOMIC_RELAXED);
	ts->tv_sec = ns / INT64_C(1000000000);
	ts->tv_nsec = ns % INT64_C(1000000000);
	return 0;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (t)
		*t = ts.tv_sec;
	return ts.tv_sec;
}
