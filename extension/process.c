/*
 * process.c
 *	  What the watchdog worker's process needs beside PostgreSQL's own care:
 *	  descriptors for the heartbeat connections, and a check of Go's threads.
 *
 * Runs in the watchdog worker's main thread, but for
 * watchdog_wake_postmaster(), which is of both workers. Reads /proc; blocks on
 * nothing.
 */
#include "watchdog.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#define SPARE_FILES		64

/*
 * A signal that PostgreSQL waits for must not be taken by one of Go's threads:
 * latches would lose their wake-ups (SIGURG since PostgreSQL 14, SIGUSR1
 * before). Returns false, and the thread in question, if one could.
 */
bool
watchdog_signals_are_blocked(char *culprit, size_t size)
{
	static const int signals[] = {
		SIGURG, SIGUSR1, SIGTERM, SIGHUP, SIGQUIT, SIGINT
	};
	DIR		   *dir = opendir("/proc/self/task");
	struct dirent *entry;
	bool		good = true;

	if (dir == NULL)
		return true;			/* no /proc: nothing to check with */
	while (good && (entry = readdir(dir)) != NULL)
	{
		char		path[64];
		char		line[256];
		FILE	   *status;

		if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%.20s/status",
				 entry->d_name);
		status = fopen(path, "r");
		if (status == NULL)
			continue;			/* the thread has ended */
		while (fgets(line, sizeof(line), status))
		{
			uint64		mask;

			if (strncmp(line, "SigBlk:", 7) != 0)
				continue;
			mask = strtoull(line + 7, NULL, 16);
			for (int i = 0; i < lengthof(signals); i++)
			{
				if ((mask & (UINT64CONST(1) << (signals[i] - 1))) == 0)
				{
					snprintf(culprit, size, "signal %d in thread %.20s",
							 signals[i], entry->d_name);
					good = false;
				}
			}
		}
		fclose(status);
	}
	closedir(dir);
	return good;
}

/* So many descriptors the worker needs at least: the guide's formula. */
uint64
watchdog_needed_files(void)
{
	return (uint64) max_files_per_process +
		2 * (uint64) watchdog_max_heartbeat_connections;
}

/*
 * Every heartbeat connection is a descriptor that PostgreSQL's own accounting
 * does not know.
 */
void
watchdog_raise_file_limit(void)
{
	struct rlimit lim;
	rlim_t		need = watchdog_needed_files();
	/* three connections of each conmgr in doubt, and one that says HELLO */
	rlim_t		want = (rlim_t) max_files_per_process +
		4 * (rlim_t) watchdog_max_heartbeat_connections + SPARE_FILES;
	bool		files_limited = false;

	if (getrlimit(RLIMIT_NOFILE, &lim) != 0 ||
		lim.rlim_cur == RLIM_INFINITY || lim.rlim_cur >= want)
		return;
	files_limited = lim.rlim_max != RLIM_INFINITY && lim.rlim_max <= need;
	lim.rlim_cur = want;
	if (lim.rlim_max != RLIM_INFINITY && lim.rlim_max < want)
		lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim) != 0)
		files_limited = true;
	if (files_limited)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the limit of open files is %lu, which may not suffice for %d heartbeat connections",
						(unsigned long) lim.rlim_cur, watchdog_max_heartbeat_connections),
				 errhint("Raise it (ulimit -n) above max_files_per_process + "
						 "watchdog.max_heartbeat_connections x 2.")));
}

/*
 * The other worker is missing. Before 16, a postmaster that learns of a
 * worker's end just before it waits for connections starts that worker again
 * up to a minute later. Any signal makes it look.
 */
void
watchdog_wake_postmaster(void)
{
	if (kill(PostmasterPid, SIGUSR1) != 0)
		elog(DEBUG1, "could not wake the postmaster: %m");
}
