/*
 * terminator.c
 *	  The terminator worker: ends the sessions of dead client hosts.
 *
 * A slot with a cut-off is a request (see bridge.h). The terminator takes a
 * snapshot of all sessions from shared memory, and does to each that comes
 * from the slot's address, and started at or before the cut-off, what
 * pg_terminate_backend() does. Pure C, no database connection; blocks on its
 * latch only, and on nothing that a session holds.
 *
 * A session that was still being authenticated is not in the snapshot yet, so
 * the same request is followed up until authentication_timeout has passed.
 */
#include "watchdog.h"

#include <netinet/in.h>
#include <signal.h>
#include <time.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include <arpa/inet.h>

#define FOLLOW_UPS		64		/* requests followed up at a time; the oldest gives way */
#define FIRST_FOLLOW_UP_MS	1000	/* a thousand sessions take about as long to end */

/* What has to end: the sessions of one address up to a cut-off. */
typedef struct Request
{
	uint8		addr[16];
	uint32		scope;
	TimestampTz cutoff;
	uint8		cause;
	bool		first;			/* not a follow-up */
	int			signaled;
	int			missed;			/* could not be signaled */
	char		text[INET6_ADDRSTRLEN];
} Request;

/* A request that is looked at again. */
typedef struct FollowUp
{
	Request		request;
	TimestampTz next;			/* 0: unused */
	TimestampTz until;
	int			delay_ms;
	int64		skew;			/* wall clock minus monotonic clock, in µs */
} FollowUp;

static FollowUp follow_ups[FOLLOW_UPS];

#define MAX_CLOCK_STEP_US	500000

static int64
clock_skew(TimestampTz now)
{
	struct timespec mono;

	clock_gettime(CLOCK_MONOTONIC, &mono);
	return now - (mono.tv_sec * USECS_PER_SEC + mono.tv_nsec / 1000);
}

/*
 * ::1 and 127.0.0.1 are one host: a name such as localhost leads to either.
 * hostOf() in worker/table.go folds them alike.
 */
static void
fold_loopback(uint8 *addr)
{
	static const uint8 loopback4[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};

	if (IN6_IS_ADDR_LOOPBACK((const struct in6_addr *) addr))
		memcpy(addr, loopback4, sizeof(loopback4));
}

/* The client address in the form of a slot: 16 bytes, IPv4 mapped. false: no client host (unix socket, internal process). */
static bool
client_address(const SockAddr *client, uint8 *addr, uint32 *scope)
{
	*scope = 0;
	if (client->addr.ss_family == AF_INET)
	{
		memset(addr, 0, 10);
		memset(addr + 10, 0xff, 2);
		memcpy(addr + 12, &((const struct sockaddr_in *) &client->addr)->sin_addr, 4);
		return true;
	}
	if (client->addr.ss_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) &client->addr;

		memcpy(addr, &in6->sin6_addr, 16);
		fold_loopback(addr);
		if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
			*scope = in6->sin6_scope_id;
		return true;
	}
	return false;
}

static bool
session_matches(const PgBackendStatus *session, const Request *request, TimestampTz now)
{
	uint8		addr[16];
	uint32		scope;

	if (session->st_procpid <= 0 ||
		(session->st_backendType != B_BACKEND && session->st_backendType != B_WAL_SENDER))
		return false;
	if (!client_address(&session->st_clientaddr, addr, &scope) ||
		memcmp(addr, request->addr, sizeof(addr)) != 0 || scope != request->scope)
		return false;
	if (session->st_proc_start_timestamp <= request->cutoff)
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
	{
		request->missed++;
		ereport(WARNING, (errmsg("could not send signal to process %d: %m", pid)));
	}
}

/* One pass over all sessions for all requests. */
static void
end_sessions(Request *requests, int nrequests)
{
	int			nsessions = pgstat_fetch_stat_numbackends();
	TimestampTz now = GetCurrentTimestamp();	/* after the snapshot: nothing in it has started later */

	for (int i = 1; i <= nsessions; i++)
	{
		PgBackendStatus *session = wd_session(i);

		for (int r = 0; session != NULL && r < nrequests; r++)
		{
			if (session_matches(session, &requests[r], now))
			{
				end_session(session->st_procpid, &requests[r]);
				break;
			}
		}
	}
	wd_forget_sessions();
}

static const char *
cause_text(uint8 cause)
{
	switch (cause)
	{
		case WD_CAUSE_SILENCE:
			return "Nothing was received from the conmgr process for heartbeat_timeout.";
		case WD_CAUSE_GOODBYE:
			return "The conmgr process has ended.";
		case WD_CAUSE_GIVEN_UP:
			return "The conmgr process has declared this instance lost.";
		case WD_CAUSE_CLOSED:
			return "The conmgr process has closed its heartbeat connection and did not resume.";
		default:
			return "";
	}
}

static void
report(const Request *request)
{
	if (request->first)
		ereport(LOG,
				(errmsg("terminator: terminated connections: ipaddress=\"%s\", count=%d", request->text, request->signaled),
				 errdetail("%s", cause_text(request->cause))));
	else if (request->signaled > 0)
		ereport(LOG,
				(errmsg("terminator: terminated connections again: ipaddress=\"%s\", count=%d", request->text, request->signaled),
				 errdetail("They were still starting, or have not ended yet.")));
}

static void
make_request(Request *request, const WatchdogSlot *slot, TimestampTz cutoff)
{
	memset(request, 0, sizeof(*request));
	memcpy(request->addr, slot->addr, sizeof(request->addr));
	request->scope = slot->scope;
	request->cutoff = cutoff;
	request->cause = slot->cause;
	request->first = true;
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *) slot->addr))
		inet_ntop(AF_INET, slot->addr + 12, request->text, sizeof(request->text));
	else
		inet_ntop(AF_INET6, slot->addr, request->text, sizeof(request->text));
	fold_loopback(request->addr);
}

static void
follow_up(const Request *request)
{
	FollowUp   *place = &follow_ups[0];
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < FOLLOW_UPS && place->next != 0; i++)
	{
		if (follow_ups[i].next == 0 || follow_ups[i].until < place->until)
			place = &follow_ups[i];
	}
	place->request = *request;
	place->request.first = false;
	place->delay_ms = FIRST_FOLLOW_UP_MS;
	place->next = now + place->delay_ms * INT64CONST(1000);
	place->until = now + AuthenticationTimeout * USECS_PER_SEC;
	place->skew = clock_skew(now);
}

/* Serve the slots with a cut-off, and answer them. Returns how many. */
static int
serve_slots(void)
{
	uint32		n = watchdog_shared->nslots;
	int			nrequests = 0;
	int			limit = 16;
	Request    *requests = palloc(limit * sizeof(Request));
	uint32	   *slots = palloc(limit * sizeof(uint32));

	for (uint32 i = 0; i < n; i++)
	{
		int64		cutoff = wd_load(&watchdog_shared->slots[i].cutoff);

		if (cutoff == 0)
			continue;
		if (nrequests == limit)
		{
			limit *= 2;
			requests = repalloc(requests, limit * sizeof(Request));
			slots = repalloc(slots, limit * sizeof(uint32));
		}
		/* The address does not change while there is a cut-off. */
		make_request(&requests[nrequests], &watchdog_shared->slots[i], cutoff - WD_EPOCH_DIFF_US);
		slots[nrequests++] = i;
	}
	if (nrequests > 0)
		end_sessions(requests, nrequests);
	for (int r = 0; r < nrequests; r++)
	{
		WatchdogSlot *slot = &watchdog_shared->slots[slots[r]];
		int64		expected = requests[r].cutoff + WD_EPOCH_DIFF_US;
		uint32		ending = WD_SLOT_ENDING;

		report(&requests[r]);
		follow_up(&requests[r]);

		/* A later cut-off than the one that we served is another request. */
		if (__atomic_compare_exchange_n(&slot->cutoff, &expected, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			(void) __atomic_compare_exchange_n(&slot->state, &ending, WD_SLOT_FREE, false,
											   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
	pfree(requests);
	pfree(slots);
	return nrequests;
}

/* Follow up what is due. Returns the time until the next one in ms, -1: none. */
static long
serve_follow_ups(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;

	for (int i = 0; i < FOLLOW_UPS; i++)
	{
		FollowUp   *f = &follow_ups[i];
		int64		step = clock_skew(now) - f->skew;

		/* Somebody has set the clock: the cut-off says nothing any more. */
		if (f->next != 0 && (step > MAX_CLOCK_STEP_US || step < -MAX_CLOCK_STEP_US))
			f->next = 0;
		if (f->next != 0 && f->next <= now)
		{
			f->request.signaled = f->request.missed = 0;
			end_sessions(&f->request, 1);
			report(&f->request);
			f->delay_ms *= 2;
			f->next = now >= f->until ? 0 : now + f->delay_ms * INT64CONST(1000);
		}
		if (f->next != 0 && (next == 0 || f->next < next))
			next = f->next;
	}
	if (next == 0)
		return -1;
	now = GetCurrentTimestamp();
	return next > now ? (long) ((next - now) / 1000 + 1) : 0;
}

static void
publish_latch(Latch *latch)
{
	SpinLockAcquire(&watchdog_shared->mutex);
	watchdog_shared->terminator_latch = latch;
	SpinLockRelease(&watchdog_shared->mutex);
}

static void
withdraw_latch(int code, Datum arg)
{
	publish_latch(NULL);
}

void
watchdog_terminator_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	context = AllocSetContextCreate(TopMemoryContext, "terminator", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	on_shmem_exit(withdraw_latch, (Datum) 0);
	publish_latch(MyLatch);

	while (!ShutdownRequestPending)
	{
		long		wait;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		serve_slots();
		wait = serve_follow_ups();
		MemoryContextReset(context);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (wait >= 0 ? WL_TIMEOUT : 0),
						 wait, PG_WAIT_EXTENSION);
	}

	/* Not 0, which would mean never to be started again: an administrator may have sent the signal. */
	proc_exit(1);
}
