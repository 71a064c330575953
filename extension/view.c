/*
 * view.c
 *	  pgx_stat_watchdog: a row for each conmgr that is connected;
 *	  pgx_stat_watchdog_sessions: a row for each session of a client host.
 *
 * Runs in ordinary backends. Takes no lock, blocks on nothing.
 */
#include "watchdog.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(pgx_stat_get_watchdog);
PG_FUNCTION_INFO_V1(pgx_stat_get_watchdog_sessions);

#define VIEW_COLUMNS_1_0 13
#define VIEW_COLUMNS 16
#define SESSION_COLUMNS 8

/* In static memory, until the next call. */
const char *
watchdog_address_text(const uint8 *addr)
{
	static char text[INET6_ADDRSTRLEN];

	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *) addr))
		inet_ntop(AF_INET, addr + 12, text, sizeof(text));
	else
		inet_ntop(AF_INET6, addr, text, sizeof(text));
	return text;
}

Datum
watchdog_inet(const uint8 *addr)
{
	return DirectFunctionCall1(inet_in, CStringGetDatum(watchdog_address_text(addr)));
}

TimestampTz
watchdog_timestamp(int64 unix_us)
{
	return unix_us - WD_EPOCH_DIFF_US;
}

/*
 * The guide's columns are whole seconds; shorter settings must not look like
 * 0.
 */
static int32
seconds_up(uint32 ms)
{
	return (int32) (ms / 1000 + (ms % 1000 != 0));
}

/*
 * A conmgr is known by its id: who knows it can speak for that conmgr. So its
 * label is shown, a hash, which tells as much to those who look.
 */
Datum
watchdog_uuid(const uint8 *label)
{
	pg_uuid_t  *shown = palloc(sizeof(pg_uuid_t));

	memcpy(shown->data, label, UUID_LEN);
	return UUIDPGetDatum(shown);
}

Datum
watchdog_keyid(const uint8 *keyid)
{
	const char *text = (const char *) keyid;

	return PointerGetDatum(cstring_to_text_with_len(text, strnlen(text, 16)));
}

/* A drain, and the sessions that it wants to go. */
typedef struct Leavers
{
	WatchdogDrain drain;
	List	   *applications;
	int64		now;
} Leavers;

static Leavers
begin_leavers(void)
{
	return (Leavers)
	{
		.drain = watchdog_current_drain(),
			.applications = watchdog_silence_only_applications(),
			.now = wd_monotonic_now()
	};
}

static bool
has_to_go(const Leavers *leavers, WatchdogSession *session)
{
	if (leavers->drain.since == 0)
		return false;
	watchdog_current_name(session);
	return watchdog_leave(&leavers->drain, session, leavers->applications,
						  leavers->now) != WD_STAYS;
}

/* One that has to go counts for the conmgr with which it would end. */
static void
count_leaver(int64 *counts, const WatchdogSlots *slots,
			 const WatchdogSession *session)
{
	const WatchdogSlot *owner = watchdog_owner(slots, session);

	for (uint32 i = 0; i < slots->n; i++)
	{
		const WatchdogSlot *slot = &slots->slots[i];

		if (owner != NULL ? slot == owner :
			watchdog_is_awaited(slot) && watchdog_has_proved(slot, session) >= 0)
			counts[i]++;
	}
}

/* For each slot, how many are left. NULL: the server is not drained. */
static int64 *
count_leavers(void)
{
	Leavers		leavers = begin_leavers();
	WatchdogSlots *slots;
	int64	   *counts;

	if (leavers.drain.since == 0)
		return NULL;
	slots = watchdog_read_slots();
	counts = palloc_extended(slots->n * sizeof(int64),
							 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (uint32 i = 0; i < watchdog_nsessions; i++)
	{
		WatchdogSession session;

		CHECK_FOR_INTERRUPTS(); /* each looks at all slots */
		if (watchdog_read_session(i, &session) && has_to_go(&leavers, &session))
			count_leaver(counts, slots, &session);
	}
	watchdog_free_slots(slots);
	return counts;
}

static void
put_row(Tuplestorestate *store, TupleDesc desc, const WatchdogSlot *slot,
		const int64 *leavers)
{
	Datum		values[VIEW_COLUMNS];
	bool		nulls[VIEW_COLUMNS] = {0};
	int			i = 0;

	values[i++] = watchdog_inet(slot->addr[0]);
	values[i++] = Int32GetDatum(slot->port);
	values[i++] = Int32GetDatum(seconds_up(slot->interval_ms));
	values[i++] = Int32GetDatum(seconds_up(slot->timeout_ms));
	values[i++] = Int64GetDatum((int64) slot->interval_ms);
	values[i++] = Int64GetDatum((int64) slot->timeout_ms);
	values[i++] = TimestampTzGetDatum(watchdog_timestamp(slot->connected_at));
	values[i++] = TimestampTzGetDatum(watchdog_timestamp(slot->last_received_at));
	values[i++] = Int64GetDatum((int64) slot->received);
	values[i++] = Int64GetDatum((int64) slot->sent);
	values[i++] = Int64GetDatum((int64) slot->resumed);
	values[i++] = Int64GetDatum((int64) slot->generation);
	values[i++] = watchdog_uuid(slot->label);
	/* what follows is not in 1.0 */
	values[i++] = Int64GetDatum((int64) slot->suspended);
	nulls[i] = slot->keyid[0] == 0;
	values[i++] = watchdog_keyid(slot->keyid);
	nulls[i] = leavers == NULL;
	values[i++] = leavers ? Int64GetDatum(*leavers) : (Datum) 0;
	Assert(i == VIEW_COLUMNS);
	tuplestore_putvalues(store, desc, values, nulls);
}

/* Where the rows go. older: so many columns there were in version 1.0. */
Tuplestorestate *
watchdog_begin_rows(FunctionCallInfo fcinfo, int natts, int older, TupleDesc *desc)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext oldcontext;
	Tuplestorestate *store;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		(rsinfo->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));

	oldcontext =
		MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, desc) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("return type must be a row type")));
	if ((*desc)->natts != natts && (*desc)->natts != older)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the installed extension \"watchdog\" does not match the loaded library"),
				 errhint("Run ALTER EXTENSION watchdog UPDATE, or restart the server.")));
	store = tuplestore_begin_heap(true, false, work_mem);
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = store;
	rsinfo->setDesc = *desc;
	MemoryContextSwitchTo(oldcontext);
	return store;
}

Datum
pgx_stat_get_watchdog(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Tuplestorestate *store = watchdog_begin_rows(fcinfo, VIEW_COLUMNS,
										VIEW_COLUMNS_1_0, &desc);
	int64	   *counts = desc->natts == VIEW_COLUMNS ? count_leavers() : NULL;

	for (uint32 i = 0; i < watchdog_shared->nslots; i++)
	{
		WatchdogSlot copy;

		if (wd_load(&watchdog_shared->slots[i].state) == WD_SLOT_CONNECTED &&
			watchdog_read_slot(&watchdog_shared->slots[i], &copy) &&
			copy.state == WD_SLOT_CONNECTED)
			put_row(store, desc, &copy, counts ? &counts[i] : NULL);
	}
	return (Datum) 0;
}

static bool
has_label(const WatchdogSession *session)
{
	static const uint8 none[sizeof(session->label)];

	return memcmp(session->label, none, sizeof(none)) != 0;
}

/* How many conmgrs that are awaited have proved the session's address. */
static int32
count_at_address(const WatchdogSlots *slots, const WatchdogSession *session)
{
	int32		n = 0;

	for (uint32 i = 0; i < slots->n; i++)
	{
		if (watchdog_is_awaited(&slots->slots[i]) &&
			watchdog_has_proved(&slots->slots[i], session) >= 0)
			n++;
	}
	return n;
}

static void
put_session(Tuplestorestate *store, TupleDesc desc, const WatchdogSlots *slots,
			const Leavers *leavers, WatchdogSession *session)
{
	const WatchdogSlot *owner = watchdog_owner(slots, session);
	Datum		values[SESSION_COLUMNS] = {0};
	bool		nulls[SESSION_COLUMNS] = {0};
	int			i = 0;

	values[i++] = Int32GetDatum((int32) session->pid);
	values[i++] = watchdog_inet(session->addr);
	values[i++] = Int32GetDatum(session->port);
	nulls[i] = !has_label(session);
	values[i++] = watchdog_uuid(session->label);
	nulls[i] = !has_label(session);
	values[i++] = BoolGetDatum(owner != NULL);
	nulls[i] = owner == NULL;
	values[i++] = owner ? watchdog_uuid(owner->label) : (Datum) 0;
	values[i++] = Int32GetDatum(count_at_address(slots, session));
	nulls[i] = leavers->drain.since == 0;
	values[i++] = BoolGetDatum(has_to_go(leavers, session));
	Assert(i == SESSION_COLUMNS);
	tuplestore_putvalues(store, desc, values, nulls);
}

Datum
pgx_stat_get_watchdog_sessions(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Tuplestorestate *store = watchdog_begin_rows(fcinfo, SESSION_COLUMNS,
										SESSION_COLUMNS, &desc);
	WatchdogSlots *slots = watchdog_read_slots();
	Leavers		leavers = begin_leavers();

	for (uint32 i = 0; i < watchdog_nsessions; i++)
	{
		WatchdogSession session;

		CHECK_FOR_INTERRUPTS(); /* each looks at all slots */
		if (watchdog_read_session(i, &session))
			put_session(store, desc, slots, &leavers, &session);
	}
	watchdog_free_slots(slots);
	return (Datum) 0;
}
