/*
 * attributes.c
 *	  What the watchdog worker tells of the instance, and when to look again.
 *
 * Runs in the watchdog worker's main thread. Reads shared memory and the
 * postmaster's pid file; blocks on nothing.
 */
#include "watchdog.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "access/xact.h"
#include "utils/pidfile.h"

/* Relative to the data directory, where we are. */
#define POSTMASTER_PID_FILE	"postmaster.pid"

/*
 * Is the postmaster shutting down? It says so in its pid file before it
 * signals anybody.
 */
bool
watchdog_server_is_stopping(void)
{
	char		buf[1024];
	char	   *line = buf;
	int			fd;
	ssize_t		len;

	fd = open(POSTMASTER_PID_FILE, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (len <= 0)
		return false;
	buf[len] = '\0';
	for (int i = 1; i < LOCK_FILE_LINE_PM_STATUS && line != NULL; i++)
	{
		line = strchr(line, '\n');
		if (line != NULL)
			line++;
	}
	return line != NULL &&
		strncmp(line, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
}

/*
 * As they go over the wire: flags in the high half, timeline in the low one.
 */
uint64
watchdog_attributes(bool stopping)
{
	uint64		flags = 0;
	TimeLineID	timeline = 0;

	if (RecoveryInProgress())
	{
		flags |= WD_ATTR_IN_RECOVERY;
		GetXLogReplayRecPtr(&timeline);
	}
	else
		timeline = wd_primary_timeline();
	if (DefaultXactReadOnly)
		flags |= WD_ATTR_READ_ONLY;
	if (stopping)
		flags |= WD_ATTR_SHUTTING_DOWN;
	if (watchdog_is_drained())
		flags |= WD_ATTR_DRAINING;
	return flags << 32 | timeline;
}

/*
 * Promotion and shutdown announce themselves by files in the data directory:
 * the postmaster writes its status into its pid file, a promotion removes
 * standby.signal. Returns a descriptor that tells of such changes, -1 if there
 * is none to be had: the attributes are then checked by their interval alone.
 */
int
watchdog_watch_data_directory(void)
{
	int			fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	if (fd >= 0 && inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE | IN_MOVED_FROM |
									 IN_MOVED_TO | IN_CLOSE_WRITE) < 0)
	{
		close(fd);
		fd = -1;
	}
	if (fd < 0)
		ereport(LOG,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not watch the data directory: %m")));
	return fd;
}

/*
 * Has anything changed there? Which file it was does not matter: a needless
 * look costs little.
 */
bool
watchdog_data_directory_changed(int fd)
{
	char		buf[4096];
	bool		changed = false;

	while (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
		changed = true;
	return changed;
}
