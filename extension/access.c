/*
 * access.c
 *	  Who may be a conmgr of this server: settings, and how Go learns of them.
 *
 * The key file itself is read by the Go side. Runs in the postmaster, which
 * defines and checks the settings, in every process that reads them again, and
 * in the watchdog worker. Blocks on nothing.
 */
#include "watchdog.h"

#include <arpa/inet.h>
#include <limits.h>

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

/* Tell Go, which reads the key file again by that. */
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
	wd_store(&bridge->access_serial, bridge->access_serial + 1);
}
