/*
 * leaks.c: connects and disconnects, and looks whether anything stays. Usage: leaks number descriptors conninfo
 * descriptors: so many are opened before, as in a process that has many (no FD_SETSIZE in the way).
 */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static int
entries(const char *directory)
{
	DIR		   *d = opendir(directory);
	int			n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Neither libpq nor the front has set a handler. */
static void
check_signals(void)
{
	for (int i = 1; i < NSIG; i++)
	{
		struct sigaction action;

		CHECK(sigaction(i, NULL, &action) != 0 || action.sa_handler == SIG_DFL);
	}
}

int
main(int argc, char **argv)
{
	int			n = atoi(argv[1]);
	int			descriptors = atoi(argv[2]);
	struct rlimit limit;
	size_t		memory;
	int			fds;

	CHECK(argc == 4);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < descriptors; i++)
		CHECK(open("/dev/null", O_RDONLY) >= 0);
	CHECK(entries("/proc/self/task") == 3); /* ".", "..", main */
	for (int i = 0; i < 20; i++)	/* what is made once, and stays */
		PQfinish(must_connect(argv[3]));
	fds = entries("/proc/self/fd");
	memory = mallinfo2().uordblks;
	for (int i = 0; i < n; i++)
	{
		PGconn	   *c = must_connect(argv[3]);
		PGresult   *r = PQexec(c, "select 1");

		CHECK_OK(c, r, PGRES_TUPLES_OK);
		PQclear(r);
		if (i % 10 == 0)
			PQreset(c);
		PQfinish(c);
	}
	CHECK(entries("/proc/self/fd") == fds);
	if (mallinfo2().uordblks > memory + 4096)
	{
		printf("memory has grown by %zu bytes\n", mallinfo2().uordblks - memory);
		return 1;
	}
	check_signals();
	printf("ok threads %d\n", entries("/proc/self/task") - 2);
	return 0;
}
