/*
 * watchdog.c
 *	  Module entry: settings and registration of the two workers.
 *
 * Runs in the postmaster, while it loads shared_preload_libraries. Neither
 * opens nor blocks on anything. It must stay plain C: a Go runtime in the
 * postmaster would leave every forked process with a dead one (docs/design.md).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* dladdr() */
#endif
#include "watchdog.h"

#include <dlfcn.h>
#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#ifdef PG_MODULE_MAGIC_EXT
PG_MODULE_MAGIC_EXT(.name = "watchdog",.version = WATCHDOG_VERSION);
#else
PG_MODULE_MAGIC;
#endif

PGDLLEXPORT void _PG_init(void);

int			watchdog_port;
int			watchdog_check_attr_interval;
int			watchdog_max_heartbeat_connections;
char	   *watchdog_listen_addresses;
bool		watchdog_terminate_on_close;
bool		watchdog_kernel_evidence = true;
char	   *watchdog_terminate_on_silence_only;
int			watchdog_max_heartbeat_timeout;
int			watchdog_max_application_grace;
static char *watchdog_client_label;
static char *watchdog_version;

/* An empty name would be that of all applications that tell none. */
static bool
check_applications(char **newval, void **extra, GucSource source)
{
	char	   *raw = pstrdup(*newval);
	List	   *names = NIL;
	ListCell   *lc;
	bool		valid = SplitGUCList(raw, ',', &names);

	if (!valid)
		GUC_check_errdetail("List syntax is invalid.");
	foreach(lc, names)
	{
		if (valid && *(char *) lfirst(lc) == '\0')
		{
			GUC_check_errdetail("An application's name is empty.");
			valid = false;
		}
	}
	list_free(names);
	pfree(raw);
	return valid;
}

/* The names of terminate_on_silence_only, in the current memory context. */
List *
watchdog_silence_only_applications(void)
{
	List	   *names = NIL;

	(void) SplitGUCList(pstrdup(watchdog_terminate_on_silence_only), ',', &names);
	return names;
}

/* What a session's label looks like: see read_label() in table.c. */
static bool
check_label(char **newval, void **extra, GucSource source)
{
	uint8		label[16];

	if (**newval == '\0' || watchdog_parse_label(*newval, label))
		return true;
	GUC_check_errdetail("It is 32 lower-case hexadecimal digits, or empty.");
	return false;
}

static void
define_settings(void)
{
	DefineCustomIntVariable("watchdog.check_attr_interval",
							"Interval between checks of the instance's attributes.",
							"A change is sent to all conmgr processes at once.",
							&watchdog_check_attr_interval,
							1000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("watchdog.max_heartbeat_connections",
							"Maximum number of conmgr processes that can be connected.",
							"The default is the value of max_connections.",
							&watchdog_max_heartbeat_connections,
							MaxConnections, 1, INT_MAX,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("watchdog.terminate_on_close",
							 "Whether the end of a conmgr process ends the sessions of its host.",
							 "If off, only silence for heartbeat_timeout does.",
							 &watchdog_terminate_on_close,
							 true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("watchdog.terminate_on_silence_only",
							   "Names of applications whose sessions end by silence only, as walsenders do.",
							   "Not by the end of a conmgr process, nor when it has declared this instance lost.",
							   &watchdog_terminate_on_silence_only,
							   "",
							   PGC_SIGHUP, GUC_LIST_INPUT, check_applications, NULL, NULL);
	DefineCustomBoolVariable("watchdog.kernel_evidence",
							 "Whether a host whose heartbeats are silent has more time while its sessions are heard of.",
							 "The kernel is asked when heartbeat_timeout has passed without a heartbeat.",
							 &watchdog_kernel_evidence,
							 true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("watchdog.max_heartbeat_timeout",
							"Longest heartbeat_interval and heartbeat_timeout that a conmgr process may ask for.",
							"A conmgr process with a longer one is refused.",
							&watchdog_max_heartbeat_timeout,
							3600000, 1000, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("watchdog.max_application_grace",
							"Longest time that a conmgr process may take to be started again before its sessions are terminated.",
							"A conmgr process that asks for more is granted so much; 0 grants none.",
							&watchdog_max_application_grace,
							60000, 0, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable("conmgr.client",
							   "Label of the conmgr process by which the client has found this server.",
							   "Clients set it in the options of their connection; it cannot be changed later.",
							   &watchdog_client_label,
							   "",
							   PGC_BACKEND, GUC_DISALLOW_IN_FILE | GUC_NOT_IN_SAMPLE,
							   check_label, NULL, NULL);
	DefineCustomStringVariable("watchdog.version",
							   "Version of the library that this server has loaded.",
							   NULL,
							   &watchdog_version,
							   WATCHDOG_VERSION,
							   PGC_INTERNAL, GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL, NULL, NULL);
	watchdog_define_access_settings();
	watchdog_define_drain_settings();
	watchdog_define_report_settings();
	watchdog_define_history_settings();
	wd_reserve_guc_prefix("watchdog");
}

/*
 * The name by which the workers' processes ask for this library. By the very
 * path that it was loaded by they get what the postmaster has loaded, also
 * when the file is gone; by another name they would look for the file and
 * fail, at every start.
 */
static const char *
library_name(size_t size)
{
	Dl_info		info;

	if (dladdr(&watchdog_port, &info) != 0 && info.dli_fname != NULL &&
		strlen(info.dli_fname) < size)
		return info.dli_fname;
	return "watchdog";
}

static void
register_worker(const char *name, const char *function)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, name, BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, library_name(sizeof(worker.bgw_library_name)),
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);

	/* No database connection: standbys have them as well, nothing is pinned. */
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;

	/*
	 * At once: with a heartbeat_timeout of a second or less, a worker that
	 * came back only a second later would be a lost instance to every conmgr.
	 * The workers slow themselves down if they fail again and again.
	 */
	worker.bgw_restart_time = 0;
	RegisterBackgroundWorker(&worker);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("watchdog must be loaded by \"shared_preload_libraries\""),
				 errhint("Add watchdog to shared_preload_libraries and restart the server.")));

	define_settings();
	watchdog_shmem_init();

	/* pg_upgrade's servers have no clients that could die. */
	if (!IsBinaryUpgrade)
	{
		register_worker(WATCHDOG_WORKER_NAME, "watchdog_worker_main");
		register_worker(TERMINATOR_WORKER_NAME, "watchdog_terminator_main");
	}
}
