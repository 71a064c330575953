/*
 * nomem.c: every allocation of a library fails once, each in a run of its own. Nothing crashes, no descriptor and no memory is left, a
 * failure has a message, and an event procedure that is registered stays so, and hears of the end of its handle once, at PQfinish().
 * Usage: nomem library conninfo, where library is a part of its path. Runs with GLIBC_TUNABLES=glibc.malloc.tcache_count=0, as a cache
 * counts as memory in use.
 */
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <libpq-events.h>
#include <poll.h>
#include <stdbool.h>

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

static const char *library;
static bool armed;
static long countdown;			/* allocations of the library until the one that fails */
static char where[300];			/* that one */

static bool
fails(const char *caller)
{
	Dl_info		info;

	if (!armed || !dladdr(caller, &info) || !info.dli_fname || !strstr(info.dli_fname, library) || countdown-- != 0)
		return false;
	snprintf(where, sizeof where, "%s %#lx", info.dli_fname, (unsigned long) (caller - 1 - (const char *) info.dli_fbase));
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t n)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n);
}

void *
calloc(size_t n, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *p, size_t n)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n);
}

char *
strdup(const char *s)
{
	size_t		n = strlen(s) + 1;
	char	   *copy = fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n);

	return copy ? memcpy(copy, s, n) : NULL;
}

char *
strndup(const char *s, size_t n)
{
	size_t		len = strnlen(s, n);
	char	   *copy = fails(__builtin_return_address(0)) ? NULL : __libc_malloc(len + 1);

	if (copy)
		*(char *) mempcpy(copy, s, len) = '\0';
	return copy;
}

/* After a failure the failed allocation is of interest, by addr2line. */
static void
must(bool so, const char *what)
{
	if (so)
		return;
	printf("%s, after a failure in %s\n", what, where);
	exit(1);
}

static PGconn *handle;
static int	destroyed;
static bool finishing;
static char data;

static int
proc(PGEventId id, void *info, void *pass)
{
	(void) pass;
	if (id == PGEVT_CONNDESTROY)
	{
		must(((PGEventConnDestroy *) info)->conn == handle, "an event of another handle");
		must(finishing, "the event of an end before PQfinish()");
		destroyed++;
	}
	return 1;
}

static int
descriptors(void)
{
	DIR		   *d = opendir("/proc/self/fd");
	int			n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static bool
complete(PostgresPollingStatusType (*step) (PGconn *))
{
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;

	while (s == PGRES_POLLING_WRITING || s == PGRES_POLLING_READING)
	{
		struct pollfd p = {.fd = PQsocket(handle), .events = s == PGRES_POLLING_READING ? POLLIN : POLLOUT};

		if (PQstatus(handle) == CONNECTION_BAD)
			return false;
		must(p.fd >= 0 && poll(&p, 1, 20000) == 1, "nothing comes");
		s = step(handle);
	}
	return s == PGRES_POLLING_OK;
}

static bool
use(bool registered)
{
	PGresult   *r;
	bool		ok;

	must(!registered || PQinstanceData(handle, proc) == &data, "an event procedure is not registered any more");
	r = PQexec(handle, "select 1");
	ok = PQresultStatus(r) == PGRES_TUPLES_OK;
	PQclear(r);
	return ok;
}

static void
scenario(const char *conninfo)
{
	bool		registered;

	handle = PQconnectStart(conninfo);
	if (!handle)
		return;
	registered = PQregisterEventProc(handle, proc, "proc", NULL) == 1;
	if (registered)
		must(PQsetInstanceData(handle, proc, &data), "no instance data");
	if (!complete(PQconnectPoll) || !use(registered) || !PQresetStart(handle) || !complete(PQresetPoll) || !use(registered))
		must(PQerrorMessage(handle)[0], "no message");
	finishing = true;
	destroyed = 0;
	PQfinish(handle);
	finishing = false;
	must(destroyed == registered, "no event of the end");
}

/* The scenario, in which allocation n of the library fails; returns how much memory is in use afterwards. */
static size_t
failing(const char *conninfo, int n)
{
	countdown = n;
	armed = true;
	scenario(conninfo);
	armed = false;
	return in_use();
}

int
main(int argc, char **argv)
{
	int			runs = 0;
	int			fds;
	size_t		memory;

	CHECK(argc == 3);
	library = argv[1];
	for (int i = 0; i < 5; i++) /* what is made once, and stays */
		scenario(argv[2]);
	fds = descriptors();
	memory = in_use();
	for (;;)
	{
		size_t		used = failing(argv[2], runs);
		bool		more = countdown < 0;

		must(descriptors() == fds, "a descriptor is left");

		/*
		 * A block may be some bytes larger than what was asked for, by where it comes to lie. What is left each time adds up: the smallest
		 * block has 32.
		 */
		if (used > memory)
			for (int i = 0; i < 4; i++)
				must(failing(argv[2], runs) < used + 4 * 32, "memory is left");
		runs++;
		if (!more)
			break;
	}
	printf("ok %d\n", runs);
	return 0;
}
