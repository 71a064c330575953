/*
 * followups.c
 *	  Requests of the terminator that are looked at again.
 *
 * A session that was still being authenticated is not in the snapshot of all
 * sessions yet, so the same request is followed up until
 * authentication_timeout has passed.
 *
 * Runs in the terminator worker; blocks on nothing.
 */
#include "terminator.h"

#include <time.h>

#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SPARE_FOLLOW_UPS	64	/* beyond one for each slot */

/* A thousand sessions take about as long to end. */
#define FIRST_FOLLOW_UP_MS	1000

/* A request that is looked at again. */
typedef struct FollowUp
{
	Request		request;
	TimestampTz next;			/* 0: unused */
	TimestampTz until;
	int			delay_ms;
	int64		skew;			/* wall clock minus monotonic clock, in µs */
} FollowUp;

/*
 * An address has one at most, so there is one for each host that can die
 * within authentication_timeout. Only slots that are used by ever other
 * addresses need more; the oldest gives way then.
 */
static FollowUp *follow_ups;
static int	nfollow_ups;

#define MAX_CLOCK_STEP_US	500000

/*
 * How far the wall clock is ahead of the monotonic one, in µs. Taken anew if
 * this process was held up between the two readings: that is no clock that
 * somebody has set.
 */
static int64
clock_skew(void)
{
	int64		skew = 0;
	int64		window = PG_INT64_MAX;

	for (int i = 0; i < 10 && window > MAX_CLOCK_STEP_US / 10; i++)
	{
		struct timespec mono;
		TimestampTz before = GetCurrentTimestamp();
		TimestampTz after;

		clock_gettime(CLOCK_MONOTONIC, &mono);
		after = GetCurrentTimestamp();
		if (after - before >= 0 && after - before < window)
		{
			window = after - before;
			skew = before -
				(mono.tv_sec * USECS_PER_SEC + mono.tv_nsec / 1000);
		}
	}
	return skew;
}

void
watchdog_make_room_for_follow_ups(void)
{
	nfollow_ups = watchdog_shared->nslots + SPARE_FOLLOW_UPS;
	follow_ups = MemoryContextAllocExtended(TopMemoryContext,
											nfollow_ups * sizeof(FollowUp),
											MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/*
 * The clock was set since this follow-up was made: its cut-off says nothing
 * any more.
 */
static bool
is_void(const FollowUp *f, int64 skew)
{
	int64		step = skew - f->skew;

	return step > MAX_CLOCK_STEP_US || step < -MAX_CLOCK_STEP_US;
}

/*
 * The place for a request: the one that its host has already, a free one, or
 * the oldest.
 */
static FollowUp *
follow_up_place(const Request *request)
{
	FollowUp   *place = &follow_ups[0];

	for (int i = 0; i < nfollow_ups; i++)
	{
		FollowUp   *f = &follow_ups[i];

		if (f->next != 0 &&
			watchdog_same_host(&f->request, request->addr, request->scope))
			return f;
		if (place->next != 0 && (f->next == 0 || f->until < place->until))
			place = f;
	}
	return place;
}

void
watchdog_follow_up(const Request *request)
{
	FollowUp   *place = follow_up_place(request);
	TimestampTz now = GetCurrentTimestamp();
	int64		skew = clock_skew();
	Request		merged = *request;

	if (place->next != 0 &&
		watchdog_same_host(&place->request, request->addr, request->scope) &&
		!is_void(place, skew))
	{
		merged.cutoff = Max(merged.cutoff, place->request.cutoff);
		merged.silence_cutoff = Max(merged.silence_cutoff,
									place->request.silence_cutoff);
	}
	place->request = merged;
	place->request.first = false;
	place->request.signaled = place->request.spared = 0;
	place->delay_ms = FIRST_FOLLOW_UP_MS;
	place->next = now + place->delay_ms * INT64CONST(1000);
	place->until = now + AuthenticationTimeout * USECS_PER_SEC;
	place->skew = skew;
}

/*
 * Follow up what is due. Returns the time until the next one in ms, -1: none.
 */
long
watchdog_serve_follow_ups(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;
	int64		skew = clock_skew();
	int			ndue = 0;
	Request    *due = palloc_extended(nfollow_ups * sizeof(Request),
									  MCXT_ALLOC_HUGE);

	for (int i = 0; i < nfollow_ups; i++)
	{
		FollowUp   *f = &follow_ups[i];

		if (f->next != 0 && is_void(f, skew))
			f->next = 0;
		if (f->next != 0 && f->next <= now)
		{
			due[ndue++] = f->request;
			f->delay_ms *= 2;
			f->next = now >= f->until ? 0 :
				now + f->delay_ms * INT64CONST(1000);
		}
		if (f->next != 0 && (next == 0 || f->next < next))
			next = f->next;
	}
	if (ndue > 0)
		watchdog_end_sessions(due, ndue);
	for (int i = 0; i < ndue; i++)
		watchdog_report(&due[i]);
	pfree(due);
	if (next == 0)
		return -1;
	now = GetCurrentTimestamp();
	return next > now ? (long) ((next - now) / 1000 + 1) : 0;
}
