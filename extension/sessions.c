/*
 * sessions.c
 *	  The terminator's pass over all sessions: which of them a request means,
 *	  and their end.
 *
 * Runs in the terminator worker. The snapshot of the backend status array takes
 * no lock; that what is signaled is a process of this server still is asked of
 * the process array, whose lock nobody holds for long.
 */
#include "terminator.h"

#include <netinet/in.h>
#include <signal.h>

#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

/*
 * ::1 and 127.0.0.1 are one host: a name such as localhost leads to either.
 * hostOf() in heartbeat/watchdog/table.go folds them alike.
 */
void
watchdog_fold_loopback(uint8 *addr)
{
	static const uint8 loopback4[16] = {
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1
	};

	if (IN6_IS_ADDR_LOOPBACK((const struct in6_addr *) addr))
		memcpy(addr, loopback4, sizeof(loopback4));
}

/*
 * The client address in the form of a slot: 16 bytes, IPv4 mapped. false: no
 * client host (unix socket, internal process).
 */
static bool
client_address(const SockAddr *client, uint8 *addr, uint32 *scope)
{
	*scope = 0;
	if (client->addr.ss_family == AF_INET)
	{
		memset(addr, 0, 10);
		memset(addr + 10, 0xff, 2);
		memcpy(addr + 12,
			   &((const struct sockaddr_in *) &client->addr)->sin_addr, 4);
		return true;
	}
	if (client->addr.ss_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 =
			(const struct sockaddr_in6 *) &client->addr;

		memcpy(addr, &in6->sin6_addr, 16);
		watchdog_fold_loopback(addr);
		if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
			*scope = in6->sin6_scope_id;
		return true;
	}
	return false;
}

static bool
is_client_session(const PgBackendStatus *session)
{
	return session->st_procpid > 0 &&
		(session->st_backendType == B_BACKEND ||
		 session->st_backendType == B_WAL_SENDER);
}

bool
watchdog_same_host(const Request *request, const uint8 *addr, uint32 scope)
{
	return memcmp(addr, request->addr, sizeof(request->addr)) == 0 &&
		scope == request->scope;
}

/* Did the session start before the cut-off? */
static bool
started_before(const PgBackendStatus *session, const Request *request,
			   TimestampTz cutoff, TimestampTz now)
{
	if (session->st_proc_start_timestamp <= cutoff)
		return true;

	/* Started in the future: before somebody set the clock back. */
	return request->first && session->st_proc_start_timestamp > now;
}

/* What pg_terminate_backend() does, but for its checks of privileges. */
static void
end_session(int pid, Request *request)
{
	if (BackendPidGetProc(pid) == NULL)
		return;					/* it has ended meanwhile */
	if (kill(-pid, SIGTERM) == 0)
		request->signaled++;
	else if (errno != ESRCH)
		ereport(WARNING,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not send signal to process %d: %m", pid)));
}

/*
 * Walsenders, and applications of the setting. An application names itself,
 * which proves nothing: so a name protects from no end by silence.
 */
static bool
ends_by_silence_only(const PgBackendStatus *session, List *applications)
{
	ListCell   *lc;

	if (session->st_backendType == B_WAL_SENDER)
		return true;
	foreach(lc, applications)
	{
		if (strcmp((char *) lfirst(lc), session->st_appname) == 0)
			return true;
	}
	return false;
}

/* Does the request want the end of this session, which is of its host? */
static bool
wants_end_of(Request *request, const PgBackendStatus *session,
			 List *applications, TimestampTz now)
{
	if (!started_before(session, request, request->cutoff, now))
		return false;
	if (!ends_by_silence_only(session, applications))
		return true;
	if (request->silence_cutoff != 0)
		return started_before(session, request, request->silence_cutoff, now);
	request->spared++;
	return false;
}

/* One pass over all sessions for all requests. */
void
watchdog_end_sessions(Request *requests, int nrequests)
{
	int			nsessions = pgstat_fetch_stat_numbackends();

	/* After the snapshot: nothing in it has started later. */
	TimestampTz now = GetCurrentTimestamp();
	List	   *applications = watchdog_silence_only_applications();

	for (int i = 1; i <= nsessions; i++)
	{
		PgBackendStatus *session = wd_session(i);
		uint8		addr[16];
		uint32		scope;

		if (session == NULL || !is_client_session(session) ||
			!client_address(&session->st_clientaddr, addr, &scope))
			continue;
		for (int r = 0; r < nrequests; r++)
		{
			if (watchdog_same_host(&requests[r], addr, scope) &&
				wants_end_of(&requests[r], session, applications, now))
			{
				end_session(session->st_procpid, &requests[r]);
				break;
			}
		}
	}
	wd_forget_sessions();
}
