/*
 * leaks.c: connects and disconnects, and looks whether anything stays. Usage: leaks number descriptors conninfo
 * descriptors: so many are opened before, as in a process that has many (no FD_SETSIZE in the way).
 */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
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

/* Neither libpq nor the front has set a handler: none is there, but for what the program was started with (nohup ignores some). */
static void
check_signals(void)
{
	for (int i = 1; i < NSIG; i++)
	{
		struct sigaction action;

		CHECK(sigaction(i, NULL, &action) != 0 || action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN);
	}
}

static bool inherited[1024];		/* descriptors that the program was started with */

/* No descriptor of the front or of libpq gets into a program that is executed. */
static void
check_descriptors(void)
{
	DIR		   *d = opendir("/proc/self/fd");
	struct dirent *e;

	while ((e = readdir(d)))
	{
		int			fd = atoi(e->d_name);
		char		path[300];
		char		file[300] = "";

		snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
		if (!(fd < 1024 && inherited[fd]) && readlink(path, file, sizeof file - 1) > 0 && !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
		{
			printf("descriptor %d, %s, is not close-on-exec\n", fd, file);
			exit(1);
		}
	}
	closedir(d);
}

/* The front's thread, if there is one, takes no signal from the program's. */
static void
check_thread(void)
{
	static const unsigned long never = 1UL << (SIGKILL - 1) | 1UL << (SIGSTOP - 1) | 3UL << 31;	/* and two of the C library's */
	DIR		   *d = opendir("/proc/self/task");
	struct dirent *e;

	while ((e = readdir(d)))
	{
		char		path[300];
		char		line[300];
		unsigned long blocked;
		FILE	   *f;

		if (e->d_name[0] == '.' || atoi(e->d_name) == getpid())
			continue;
		snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
		f = fopen(path, "re");
		CHECK(f);
		while (fgets(line, sizeof line, f))
			if (sscanf(line, "SigBlk: %lx", &blocked) == 1)
				CHECK((blocked | never) == ~0UL);
		fclose(f);
	}
	closedir(d);
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
	for (int fd = 0; fd < 1024; fd++)
		inherited[fd] = fcntl(fd, F_GETFD) >= 0;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < descriptors; i++)
		CHECK(open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0);
	CHECK(entries("/proc/self/task") == 3); /* ".", "..", main */
	for (int i = 0; i < 20; i++)	/* what is made once, and stays */
		PQfinish(must_connect(argv[3]));
	fds = entries("/proc/self/fd");
	memory = in_use();
	for (int i = 0; i < n; i++)
	{
		PGconn	   *c = must_connect(argv[3]);
		PGresult   *r = PQexec(c, "select 1");

		CHECK_OK(c, r, PGRES_TUPLES_OK);
		PQclear(r);
		if (i == 0)
		{
			check_descriptors();
			check_thread();
		}
		if (i % 10 == 0)
			PQreset(c);
		PQfinish(c);
	}
	CHECK(entries("/proc/self/fd") == fds);
	if (in_use() > memory + 4096)
	{
		printf("memory has grown by %zu bytes\n", in_use() - memory);
		return 1;
	}
	check_signals();
	printf("ok threads %d\n", entries("/proc/self/task") - 2);
	return 0;
}
