/*
 * view.c
 *	  pgx_stat_watchdog: a row for each conmgr that is connected.
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

#define VIEW_COLUMNS 13

static Datum
inet_of(const WatchdogSlot *slot)
{
	char		ipaddress[INET6_ADDRSTRLEN];
	const struct in6_addr *addr = (const struct in6_addr *) slot->addr[0];

	if (IN6_IS_ADDR_V4MAPPED(addr))
		inet_ntop(AF_INET, slot->addr[0] + 12, ipaddress, sizeof(ipaddress));
	else
		inet_ntop(AF_INET6, slot->addr, ipaddress, sizeof(ipaddress));
	return DirectFunctionCall1(inet_in, CStringGetDatum(ipaddress));
}

static TimestampTz
timestamp_of(int64 unix_us)
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
 * A conmgr is known by its id: who knows it can speak for that conmgr. So a
 * hash is shown, which tells as much to those who look.
 */
static Datum
hash_of(const uint8 *id)
{
	pg_uuid_t  *shown = palloc(sizeof(pg_uuid_t));
	bytea	   *bytes = palloc(VARHDRSZ + UUID_LEN);

	SET_VARSIZE(bytes, VARHDRSZ + UUID_LEN);
	memcpy(VARDATA(bytes), id, UUID_LEN);
	bytes = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
												PointerGetDatum(bytes)));
	memcpy(shown->data, VARDATA_ANY(bytes), UUID_LEN);
	return UUIDPGetDatum(shown);
}

static void
put_row(Tuplestorestate *store, TupleDesc desc, const WatchdogSlot *slot)
{
	Datum		values[VIEW_COLUMNS];
	bool		nulls[VIEW_COLUMNS] = {0};
	int			i = 0;

	values[i++] = inet_of(slot);
	values[i++] = Int32GetDatum(slot->port);
	values[i++] = Int32GetDatum(seconds_up(slot->interval_ms));
	values[i++] = Int32GetDatum(seconds_up(slot->timeout_ms));
	values[i++] = Int64GetDatum((int64) slot->interval_ms);
	values[i++] = Int64GetDatum((int64) slot->timeout_ms);
	values[i++] = TimestampTzGetDatum(timestamp_of(slot->connected_at));
	values[i++] = TimestampTzGetDatum(timestamp_of(slot->last_received_at));
	values[i++] = Int64GetDatum((int64) slot->received);
	values[i++] = Int64GetDatum((int64) slot->sent);
	values[i++] = Int64GetDatum((int64) slot->resumed);
	values[i++] = Int64GetDatum((int64) slot->generation);
	values[i++] = hash_of(slot->id);
	Assert(i == VIEW_COLUMNS);
	tuplestore_putvalues(store, desc, values, nulls);
}

Datum
pgx_stat_get_watchdog(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext oldcontext;
	TupleDesc	desc;
	Tuplestorestate *store;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		(rsinfo->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));

	oldcontext =
		MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("return type must be a row type")));
	if (desc->natts != VIEW_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the installed extension \"watchdog\" does not match the loaded library"),
				 errhint("Run ALTER EXTENSION watchdog UPDATE, or restart the server.")));
	store = tuplestore_begin_heap(true, false, work_mem);
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = store;
	rsinfo->setDesc = desc;
	MemoryContextSwitchTo(oldcontext);

	for (uint32 i = 0; i < watchdog_shared->nslots; i++)
	{
		WatchdogSlot copy;

		if (wd_load(&watchdog_shared->slots[i].state) == WD_SLOT_CONNECTED &&
			watchdog_read_slot(&watchdog_shared->slots[i], &copy) &&
			copy.state == WD_SLOT_CONNECTED)
			put_row(store, desc, &copy);
	}
	return (Datum) 0;
}
