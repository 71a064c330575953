/*
 * access.c
 *	  Who may be a conmgr of this server, and where it listens: settings, and
 *	  how Go learns of them.
 *
 * The key file itself is read by the Go side. Runs in the postmaster, which
 * defines and checks the settings, in every process that reads them again, and
 * in the watchdog worker. Blocks on nothing.
 */
#include "watchdog.h"

#include <arpa/inet.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "postmaster/postmaster.h"
#include "utils/guc.h"

static int	authentication;
static char *key_file;
static char *allowed_addresses;
static int	min_heartbeat_interval;

static const struct config_enum_entry authentication_options[] = {
	{"off", WD_AUTHENTICATION_OFF, false},
	{"prefer", WD_AUTHENTICATION_PREFER, false},
	{"require", WD_AUTHENTICATION_REQUIRE, false},
	{NULL, 0, false}
};

/* Is this a network, or an address? It is changed. */
static bool
is_network(char *text)
{
	unsigned char addr[16];
	char	   *slash = strchr(text, '/');
	int			family = strchr(text, ':') ? AF_INET6 : AF_INET;
	int			most = family == AF_INET6 ? 128 : 32;
	int			bits = most;

	if (slash)
	{
		char	   *end;
		long		n;

		*slash++ = '\0';
		if (*slash < '0' || *slash > '9')
			return false;
		n = strtol(slash, &end, 10);
		if (*end != '\0' || n > most || (*slash == '0' && slash[1] != '\0'))
			return false;
		bits = n;
	}
	if (inet_pton(family, text, addr) != 1)
		return false;
	for (int i = bits; i < most; i++)
	{
		if (addr[i / 8] & (0x80 >> i % 8))
			return false;
	}
	/* IPv4 addresses are compared as IPv4 addresses. */
	return family == AF_INET ||
		memcmp(addr, "\0\0\0\0\0\0\0\0\0\0\377\377", 12) != 0;
}

static bool
check_allowed_addresses(char **newval, void **extra, GucSource source)
{
	char	   *list;
	char	   *rest;

	if (strlen(*newval) >= WD_ALLOWED_ADDRESSES)
	{
		GUC_check_errdetail("The list is longer than %d bytes.", WD_ALLOWED_ADDRESSES - 1);
		return false;
	}
	if ((*newval)[strspn(*newval, " \t")] == '\0')
		return true;
	list = rest = pstrdup(*newval);
	for (int n = 1; rest != NULL; n++)
	{
		char	   *item = strsep(&rest, ",");
		char	   *end;

		item += strspn(item, " \t");
		for (end = item + strlen(item); end > item && strchr(" \t", end[-1]); end--)
			end[-1] = '\0';
		if (!is_network(item))
		{
			GUC_check_errdetail("Entry %d of the list is no network.", n);
			GUC_check_errhint("Allowed are networks such as 192.0.2.0/24 and 2001:db8::/32, without bits to the right of the mask, and addresses, separated by commas.");
			pfree(list);
			return false;
		}
	}
	pfree(list);
	return true;
}

static bool
check_listen_addresses(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) < WD_LISTEN_ADDRESSES)
		return true;
	GUC_check_errdetail("The list is longer than %d bytes.", WD_LISTEN_ADDRESSES - 1);
	return false;
}

static bool
check_key_file(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) < MAXPGPATH)
		return true;
	GUC_check_errdetail("The path is longer than %d bytes.", MAXPGPATH - 1);
	return false;
}

void
watchdog_define_access_settings(void)
{
	DefineCustomIntVariable("watchdog.port",
							"Port on which conmgr processes connect for heartbeat monitoring.",
							NULL,
							&watchdog_port,
							27545, 1, 65535,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("watchdog.listen_addresses",
							   "Addresses on which conmgr processes connect, in the form of listen_addresses.",
							   "The default is the value of listen_addresses.",
							   &watchdog_listen_addresses,
							   ListenAddresses,
							   PGC_SIGHUP, GUC_LIST_INPUT, check_listen_addresses, NULL, NULL);
	DefineCustomEnumVariable("watchdog.authentication",
							 "Whether conmgr processes have to prove by a key who they are.",
							 "With prefer, one without a key is served, but does not touch what belongs to a key.",
							 &authentication,
							 WD_AUTHENTICATION_OFF, authentication_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("watchdog.key_file",
							   "File with the keys of the client hosts.",
							   NULL,
							   &key_file,
							   "",
							   PGC_SIGHUP, 0, check_key_file, NULL, NULL);
	DefineCustomStringVariable("watchdog.allowed_addresses",
							   "Networks from which conmgr processes may connect.",
							   "If empty, from everywhere.",
							   &allowed_addresses,
							   "",
							   PGC_SIGHUP, GUC_LIST_INPUT, check_allowed_addresses, NULL, NULL);
	DefineCustomIntVariable("watchdog.min_heartbeat_interval",
							"Shortest heartbeat_interval that a conmgr process may ask for.",
							"A conmgr process with a shorter one is refused.",
							&min_heartbeat_interval,
							10, 10, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

WatchdogAccess
watchdog_access(void)
{
	return (WatchdogAccess)
	{
		.authenticates = authentication != WD_AUTHENTICATION_OFF,
			.key_file = key_file
	};
}

/* What is wrong with the key file, in few words. internal/keyfile has the rules. */
const char *
watchdog_key_file_trouble(const char *path)
{
	struct stat st;

	if (*path == '\0')
		return "watchdog.key_file is not set";
	if (stat(path, &st) != 0 || access(path, R_OK) != 0)
		return errno == ENOENT ? "it is not there" : "it cannot be read";
	if (!S_ISREG(st.st_mode))
		return "it is no regular file";
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return "it is another user's";
	if (st.st_mode & (st.st_uid == geteuid() ? 077 : 037))
		return "others may read it";
	return "its text is wrong";
}

/* Tell Go, which reads the key file again by that, and looks where to listen. */
void
watchdog_tell_access(WatchdogBridge *bridge)
{
	wd_store(&bridge->access_serial, bridge->access_serial + 1);
	wd_fence();
	bridge->authentication = authentication;
	bridge->min_interval_ms = min_heartbeat_interval;
	strlcpy(bridge->key_file, key_file, sizeof(bridge->key_file));
	strlcpy(bridge->allowed_addresses, allowed_addresses,
			sizeof(bridge->allowed_addresses));
	bridge->port = watchdog_port;
	strlcpy(bridge->listen_addresses, watchdog_listen_addresses,
			sizeof(bridge->listen_addresses));
	wd_store(&bridge->access_serial, bridge->access_serial + 1);
}
