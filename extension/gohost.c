/*
 * gohost.c
 *	  The heartbeat thread: how the Go library is opened, and how it ends.
 *
 * Two kinds of thread live in the watchdog worker's process. The main thread
 * is an ordinary PostgreSQL process: it owns signals, latch, settings,
 * ereport(), and never calls Go. The helper thread and what Go starts run with
 * all signals blocked and never call PostgreSQL. They meet at the
 * WatchdogBridge.
 *
 * All functions but the helper thread's own are the main thread's. They block
 * for FAREWELL_MS at most.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* dladdr() */
#endif
#include "watchdog.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define GO_LIBRARY			"watchdog_go.so"
#define FAREWELL_MS			200 /* what Go gets to say goodbye at a shutdown */

static WatchdogBridge *bridge = NULL;
static char load_error[256];	/* why the helper thread could not start Go */

/* That hit the heartbeat thread. */
static volatile sig_atomic_t crash_signal = 0;

static const int crash_signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};

/* Tell the main thread, from any thread or signal handler. */
static void
tell_failure(void)
{
	static const uint64_t one = 1;

	wd_store(&bridge->failed, 1);
	if (write(bridge->to_c, &one, sizeof(one)) < 0)
	{
		/* the ping will notice */
	}
}

/*
 * A failure that Go cannot recover from raises SIGABRT in the thread that it
 * hit; a damaged library may fault while it is being opened. That thread is
 * parked for ever, and the main thread ends the process in order. On the main
 * thread these signals keep their meaning.
 */
static void
handle_crash(int signo)
{
	if (syscall(SYS_gettid) == getpid())
	{
		signal(signo, SIG_DFL);
		raise(signo);
		return;
	}
	crash_signal = signo;
	tell_failure();
	for (;;)
		pause();
}

/*
 * SIGQUIT from the postmaster is the immediate shutdown. SIGQUIT from
 * ourselves is Go's runtime passing on a fatal signal to its other threads.
 */
static void
handle_quit(int signo, siginfo_t *info, void *context)
{
	if (info->si_pid == getpid())
	{
		wd_store(&bridge->failed, 1);
		SetLatch(MyLatch);
		return;
	}
	_exit(2);
}

static void
set_handler(int signo, void (*handler) (int),
			void (*action) (int, siginfo_t *, void *))
{
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	sigemptyset(&act.sa_mask);
	act.sa_flags = SA_ONSTACK | SA_RESTART; /* Go's threads have small stacks */
	if (action)
	{
		act.sa_flags |= SA_SIGINFO;
		act.sa_sigaction = action;
	}
	else
		act.sa_handler = handler;
	if (sigaction(signo, &act, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not set a signal handler: %m")));
}

/* The memory in which both sides meet. */
WatchdogBridge *
watchdog_make_bridge(void)
{
	bridge = MemoryContextAllocZero(TopMemoryContext, sizeof(WatchdogBridge));
	bridge->nslots = watchdog_shared->nslots;
	bridge->slots = watchdog_shared->slots;
	bridge->sessions = watchdog_sessions;
	bridge->report_only = &watchdog_shared->report_only;
	bridge->nsessions = watchdog_nsessions;
	bridge->latest_cutoff = &watchdog_shared->latest_cutoff;
	bridge->totals = watchdog_shared->totals;
	bridge->verdicts = watchdog_history->verdicts;
	bridge->nverdicts = watchdog_history->size;
	bridge->told = &watchdog_shared->told;
	bridge->last_verdict = &watchdog_history->last;
	bridge->alive_mono = &watchdog_shared->alive_mono;
	bridge->system_identifier = GetSystemIdentifier();
	bridge->postmaster_port = PostPortNumber;
	bridge->postmaster_start = PgStartTime + WD_EPOCH_DIFF_US;
	bridge->to_go = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bridge->to_c = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (bridge->to_go < 0 || bridge->to_c < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create an event descriptor: %m")));
	bridge->attributes = watchdog_attributes(watchdog_server_is_stopping());
	watchdog_show_lag(bridge, wd_monotonic_now());
	bridge->terminate_on_close = watchdog_terminate_on_close;
	bridge->kernel_evidence = watchdog_kernel_evidence;
	bridge->max_timeout_ms = watchdog_max_heartbeat_timeout;
	bridge->max_grace_ms = watchdog_max_application_grace;
	watchdog_tell_access(bridge);
	return bridge;
}

void
watchdog_poke_go(void)
{
	static const uint64_t one = 1;

	if (write(bridge->to_go, &one, sizeof(one)) < 0)
		elog(DEBUG1, "could not wake the heartbeat thread: %m");
}

/* Pass Go's log lines on. */
void
watchdog_drain_go_log(void)
{
	uint32		tail = wd_load(&bridge->log_tail);
	uint32		dropped;

	for (int i = 0; i < WD_LOG_RING && tail != wd_load(&bridge->log_head); i++)
	{
		const WatchdogLogLine *line = &bridge->log[tail % WD_LOG_RING];
		int			level = line->level == WD_LOG_WARNING ? WARNING :
			line->level == WD_LOG_LOG ? LOG : DEBUG1;

		ereport(level,
				(errmsg_internal("%s", line->message),
				 line->detail[0] ? errdetail_internal("%s", line->detail) : 0,
				 line->hint[0] ? errhint("%s", line->hint) : 0));
		tail++;
		wd_store(&bridge->log_tail, tail);
	}
	dropped = __atomic_exchange_n(&bridge->log_dropped, 0, __ATOMIC_SEQ_CST);
	if (dropped > 0)
		ereport(LOG,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%u messages of the heartbeat thread were too many to log", dropped)));
}

/* The directory that this library was loaded from holds the Go library too. */
static void
go_library_path(char *path, size_t size)
{
	Dl_info		info;

	if (dladdr(&bridge, &info) == 0 || info.dli_fname == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not find out where watchdog.so was loaded from")));
	strlcpy(path, info.dli_fname, size);
	get_parent_directory(path);
	strlcat(path, "/" GO_LIBRARY, size);
}

/*
 * The helper thread: opens the Go library and lends it this thread. All
 * signals are blocked here, and so in all of Go's threads.
 */
static void *
run_go(void *arg)
{
	const char *path = arg;
	void	   *library;
	watchdog_go_abi_version_fn abi_version = NULL;
	watchdog_go_run_fn run = NULL;
	sigset_t	faults;

	/*
	 * A fault that is blocked would end the process, and with it all
	 * sessions.
	 */
	sigemptyset(&faults);
	for (int i = 0; i < lengthof(crash_signals); i++)
		sigaddset(&faults, crash_signals[i]);
	pthread_sigmask(SIG_UNBLOCK, &faults, NULL);

	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library)
	{
		abi_version = (watchdog_go_abi_version_fn) dlsym(library, "watchdog_go_abi_version");
		run = (watchdog_go_run_fn) dlsym(library, "watchdog_go_run");
	}
	if (abi_version == NULL || run == NULL)
	{
		const char *reason = dlerror();

		strlcpy(load_error, reason ? reason : "unknown reason", sizeof(load_error));
	}
	else if (abi_version() != WATCHDOG_ABI_VERSION)
		snprintf(load_error, sizeof(load_error), "\"%s\" has interface version %u, but version %u is needed",
				 path, abi_version(), WATCHDOG_ABI_VERSION);
	else
		run(bridge);			/* sets running and finished, or failed */
	if (load_error[0])
		tell_failure();
	return NULL;
}

/* Begin with the heartbeats. */
void
watchdog_start_go(void)
{
	static char path[MAXPGPATH];
	sigset_t	all,
				mine;
	pthread_t	thread;
	int			rc;

	for (int i = 0; i < lengthof(crash_signals); i++)
		set_handler(crash_signals[i], handle_crash, NULL);
	set_handler(SIGQUIT, NULL, handle_quit);
	go_library_path(path, sizeof(path));
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mine);
	rc = pthread_create(&thread, NULL, run_go, path);
	pthread_sigmask(SIG_SETMASK, &mine, NULL);
	if (rc != 0)
	{
		errno = rc;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start the heartbeat thread: %m")));
	}
	pthread_detach(thread);
}

/*
 * Tell Go to end, and give it a moment to tell the conmgrs. Never delays a
 * shutdown.
 */
void
watchdog_stop_go(void)
{
	TimestampTz until = GetCurrentTimestamp() + FAREWELL_MS * 1000;

	wd_store(&bridge->stop, watchdog_server_is_stopping() ? WD_STOP_SERVER :
			 WD_STOP_WORKER);
	watchdog_poke_go();
	while (wd_load(&bridge->running) && !wd_load(&bridge->finished) &&
		   !wd_load(&bridge->failed))
	{
		TimestampTz now = GetCurrentTimestamp();
		uint64_t	count;

		if (now >= until)
			break;
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE |
								 WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 bridge->to_c, (until - now) / 1000 + 1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		if (read(bridge->to_c, &count, sizeof(count)) < 0 && errno != EAGAIN)
			break;
	}
	watchdog_drain_go_log();
}

/* Does Go still run, or lie parked, although it should have ended? */
bool
watchdog_go_is_stuck(void)
{
	return crash_signal != 0 ||
		(wd_load(&bridge->running) && !wd_load(&bridge->finished));
}

/*
 * The end of a worker whose heartbeat thread is parked or hangs, perhaps with a
 * lock of the C library: proc_exit() would wait for that lock in exit(), for
 * ever, and a shutdown of the server for us. What PostgreSQL needs is done.
 */
void
watchdog_leave_at_once(void)
{
	HOLD_INTERRUPTS();
	shmem_exit(1);
	_exit(1);
}

/* Why Go has ended. false: because it was told to. */
bool
watchdog_report_go_failure(void)
{
	if (crash_signal != 0)
		ereport(WARNING,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("the heartbeat thread has crashed (signal %d): the watchdog worker is restarted", (int) crash_signal),
				 errhint("If this happens at each start, install watchdog_go.so again.")));
	else if (load_error[0])
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("could not load the heartbeat library: %s", load_error),
				 errhint("Install watchdog.so and watchdog_go.so of the same version in the same directory.")));
	return crash_signal != 0 || load_error[0] || wd_load(&bridge->failed);
}
