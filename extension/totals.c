/*
 * totals.c
 *	  The cumulative counters, and their view.
 *
 * They lie in shared memory, where the watchdog worker's heartbeat thread, the
 * terminator and sessions add to them by atomic instructions; so they outlive
 * any process, but not a restart of the server, be it by itself after a crash.
 *
 * Runs in all of these, and in backends that look at them. Takes no lock,
 * blocks on nothing.
 */
#include "watchdog.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(pgx_stat_get_watchdog_totals);
PG_FUNCTION_INFO_V1(pgx_stat_watchdog_reset);

/* What there is now, the counters, and since when. */
#define PRESENT_COLUMNS	4
#define TOTALS_COLUMNS	(PRESENT_COLUMNS + WD_TOTALS + 1)

void
watchdog_count(int total, uint64 n)
{
	(void) __atomic_fetch_add(&watchdog_shared->totals[total], n, __ATOMIC_RELAXED);
}

/* The counter of a cause, from that of silence on. */
void
watchdog_count_cause(int first, uint8 cause, uint64 n)
{
	if (cause >= WD_CAUSE_SILENCE && cause <= WD_CAUSE_CLOSED)
		watchdog_count(first + cause - WD_CAUSE_SILENCE, n);
}

/* Everybody else adds to what there is, so that nothing but a store is needed. */
void
watchdog_reset_totals(void)
{
	for (int i = 0; i < WD_TOTALS; i++)
		wd_store(&watchdog_shared->totals[i], 0);
	wd_store(&watchdog_shared->totals_since, GetCurrentTimestamp());
}

Datum
pgx_stat_watchdog_reset(PG_FUNCTION_ARGS)
{
	watchdog_reset_totals();
	PG_RETURN_VOID();
}

/* Does somebody answer for a session, by its label or its address? */
bool
watchdog_is_protected(const WatchdogSlots *slots, const WatchdogSession *session)
{
	if (watchdog_owner(slots, session) != NULL)
		return true;
	for (uint32 i = 0; i < slots->n; i++)
	{
		if (watchdog_is_awaited(&slots->slots[i]) &&
			watchdog_has_proved(&slots->slots[i], session) >= 0)
			return true;
	}
	return false;
}

/* Conmgrs that are connected, that may resume; sessions with one, and without. */
static void
count_present(Datum *values)
{
	WatchdogSlots *slots = watchdog_read_slots();
	int64		n[PRESENT_COLUMNS] = {0};

	for (uint32 i = 0; i < slots->n; i++)
	{
		if (slots->slots[i].state == WD_SLOT_CONNECTED)
			n[0]++;
		else if (watchdog_is_awaited(&slots->slots[i]))
			n[1]++;
	}
	for (uint32 i = 0; i < watchdog_nsessions; i++)
	{
		WatchdogSession session;

		CHECK_FOR_INTERRUPTS(); /* each may look at all slots */
		if (watchdog_read_session(i, &session))
			n[watchdog_is_protected(slots, &session) ? 2 : 3]++;
	}
	watchdog_free_slots(slots);
	for (int i = 0; i < PRESENT_COLUMNS; i++)
		values[i] = Int64GetDatum(n[i]);
}

/* One row. */
Datum
pgx_stat_get_watchdog_totals(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Tuplestorestate *store = watchdog_begin_rows(fcinfo, TOTALS_COLUMNS,
												 TOTALS_COLUMNS, &desc);
	Datum		values[TOTALS_COLUMNS];
	bool		nulls[TOTALS_COLUMNS] = {0};

	count_present(values);
	for (int i = 0; i < WD_TOTALS; i++)
		values[PRESENT_COLUMNS + i] =
			Int64GetDatum((int64) wd_load(&watchdog_shared->totals[i]));
	values[TOTALS_COLUMNS - 1] =
		TimestampTzGetDatum(wd_load(&watchdog_shared->totals_since));
	tuplestore_putvalues(store, desc, values, nulls);
	return (Datum) 0;
}
