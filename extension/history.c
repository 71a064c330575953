/*
 * history.c
 *	  The last verdicts, and what became of them.
 *
 * A ring in shared memory. The watchdog worker writes a verdict before it asks
 * the terminator for it (cgo/history.go); the terminator adds how many sessions
 * it has told to end, and each of these takes itself off when it has gone, so
 * that nobody has to look for the last one. A verdict that was written over
 * meanwhile is known by its number, which each word that is added to carries:
 * nothing is added to the new one.
 *
 * Runs in the terminator, in every session that ends, and in backends that look
 * at the view; in the postmaster, which makes the ring. Takes no lock, blocks
 * on nothing.
 */
#include "watchdog.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(pgx_stat_get_watchdog_verdicts);

#define VERDICT_COLUMNS 16
#define VALUE_MASK	((UINT64CONST(1) << WD_WORD_BITS) - 1)

static int	watchdog_verdict_history;

WatchdogHistory *watchdog_history = NULL;

void
watchdog_define_history_settings(void)
{
	DefineCustomIntVariable("watchdog.verdict_history",
							"Number of the last verdicts that pgx_stat_watchdog_verdicts shows.",
							NULL,
							&watchdog_verdict_history,
							100, 0, 10000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

Size
watchdog_history_size(void)
{
	return add_size(offsetof(WatchdogHistory, verdicts),
					mul_size(watchdog_verdict_history, sizeof(WatchdogVerdict)));
}

void
watchdog_make_history(void)
{
	bool		found;

	watchdog_history = ShmemInitStruct("watchdog verdicts",
									   watchdog_history_size(), &found);
	if (!found)
	{
		memset(watchdog_history, 0, watchdog_history_size());
		watchdog_history->size = watchdog_verdict_history;
	}
}

/* Where a verdict stands, if it still does. */
static WatchdogVerdict *
place_of(uint64 number)
{
	if (number == 0 || watchdog_history->size == 0)
		return NULL;
	return &watchdog_history->verdicts[number % watchdog_history->size];
}

/* Copy a verdict of the ring. false: it is being written, or there is none. */
bool
watchdog_read_verdict(uint32 i, WatchdogVerdict *copy)
{
	const WatchdogVerdict *v = &watchdog_history->verdicts[i];

	return watchdog_read_serial(&v->serial, v, copy, sizeof(*copy)) &&
		copy->number != 0;
}

/* The number of what was asked for in a slot. 0: it was written over. */
uint64
watchdog_find_verdict(uint32 slot, uint32 verdict)
{
	for (uint32 i = 0; i < watchdog_history->size; i++)
	{
		WatchdogVerdict v;

		if (watchdog_read_verdict(i, &v) && v.slot == slot &&
			v.verdict == verdict && v.verdict != 0)
			return v.number;
	}
	return 0;
}

int64
watchdog_verdict_value(uint64 word)
{
	return (int64) (word & VALUE_MASK);
}

/*
 * Add to a word of a verdict; it is at least so much then. Returns what it is,
 * -1: the verdict was written over.
 */
static int64
change(uint64 *word, uint64 number, int64 add, int64 least)
{
	uint64		tag = number << WD_WORD_BITS;
	uint64		old = wd_load(word);
	int64		value;

	do
	{
		if ((old & ~VALUE_MASK) != tag)
			return -1;
		value = Max(watchdog_verdict_value(old) + add, least);
	} while (!__atomic_compare_exchange_n(word, &old, tag | value, false,
										  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return value;
}

/* The terminator has carried out a verdict. */
void
watchdog_verdict_served(uint64 number, bool report_only,
						int signaled, int spared)
{
	WatchdogVerdict *v = place_of(number);

	if (v == NULL)
		return;
	(void) change(&v->signaled, number, signaled, 0);
	(void) change(&v->spared, number, spared, 0);
	(void) change(&v->served, number, 0,
				  report_only ? WD_SERVED_REPORT : WD_SERVED);
}

/* A session that is starting ends itself by a verdict, or would. */
void
watchdog_verdict_starting(uint64 number)
{
	WatchdogVerdict *v = place_of(number);

	if (v != NULL)
		(void) change(&v->starting, number, 1, 0);
}

static void
one_less(uint64 number)
{
	WatchdogVerdict *v = place_of(number);

	if (v != NULL && change(&v->left, number, -1, 0) == 0)
		(void) change(&v->gone_us, number, 0,
					  Max((wd_monotonic_now() - v->decided_mono) / 1000, 1));
}

/*
 * The terminator is about to tell a session to end by a verdict. false: it was
 * told by an earlier one, which waits for its end, and by which it counts.
 */
bool
watchdog_expect_end(WatchdogSession *row, uint64 number)
{
	WatchdogVerdict *v = place_of(number);
	uint64		earlier = wd_load(&row->ended_by);

	if (v == NULL || earlier == number)
		return true;
	if (earlier != 0)
		return false;
	if (change(&v->left, number, 1, 0) > 0)
		wd_store(&row->ended_by, number);
	return true;
}

/*
 * The owner of a row has gone, or another one comes. Whoever takes the number
 * out of the row counts it.
 */
void
watchdog_has_ended(WatchdogSession *row)
{
	one_less(__atomic_exchange_n(&row->ended_by, 0, __ATOMIC_SEQ_CST));
}

static const char *
outcome_of(const WatchdogVerdict *v)
{
	if (v->verdict == 0)
		return "spared";
	switch (watchdog_verdict_value(v->served))
	{
		case WD_SERVED:
			return "terminated";
		case WD_SERVED_REPORT:
			return "reported";
		default:
			return "pending";
	}
}

static const char *
cause_name(uint8 cause)
{
	switch (cause)
	{
		case WD_CAUSE_SILENCE:
			return "silence";
		case WD_CAUSE_GOODBYE:
			return "goodbye";
		case WD_CAUSE_GIVEN_UP:
			return "given up";
		case WD_CAUSE_CLOSED:
			return "closed";
		default:
			return "";
	}
}

/* Why sessions have stayed. NULL: none has. */
static char *
why_spared(const WatchdogVerdict *v)
{
	static const char *const whys[] = {
		[WD_WHY_SETTING] = "watchdog.terminate_on_close is off",
		[WD_WHY_ALIVE] = "another conmgr of its address is alive",
		[WD_WHY_COVERED] = "it has not proved by a key who it is, and another conmgr of its address has"
	};
	const char *silence_only = "its host lives, and they end by silence only";
	const char *why = v->why < lengthof(whys) ? whys[v->why] : NULL;

	bool		spared = watchdog_verdict_value(v->spared) > 0;

	if (why != NULL && spared)
		return psprintf("%s; %s", why, silence_only);
	if (why != NULL)
		return pstrdup(why);
	return spared ? pstrdup(silence_only) : NULL;
}

/*
 * How long it took until the last session had gone. 0: one is there, or none
 * was told. While the terminator is at it, others may follow.
 */
static int64
gone_after(const WatchdogVerdict *v)
{
	if (watchdog_verdict_value(v->left) != 0 ||
		watchdog_verdict_value(v->served) == 0)
		return 0;
	return watchdog_verdict_value(v->gone_us);
}

static Datum
interval_of(int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return IntervalPGetDatum(interval);
}

static void
put_verdict(Tuplestorestate *store, TupleDesc desc, const WatchdogVerdict *v)
{
	Datum		values[VERDICT_COLUMNS] = {0};
	bool		nulls[VERDICT_COLUMNS] = {0};
	int64		gone_us = gone_after(v);
	char	   *why = why_spared(v);
	int			i = 0;

	values[i++] = Int64GetDatum((int64) v->number);
	values[i++] = TimestampTzGetDatum(watchdog_timestamp(v->decided_at));
	values[i++] = watchdog_inet(v->addr);
	values[i++] = Int32GetDatum(v->port);
	values[i++] = watchdog_uuid(v->label);
	nulls[i] = v->keyid[0] == 0;
	values[i++] = watchdog_keyid(v->keyid);
	values[i++] = CStringGetTextDatum(cause_name(v->cause));
	values[i++] = TimestampTzGetDatum(watchdog_timestamp(v->last_received_at));
	values[i++] = Int64GetDatum((int64) v->timeout_ms);
	values[i++] = CStringGetTextDatum(outcome_of(v));
	values[i++] = Int64GetDatum(watchdog_verdict_value(v->signaled));
	values[i++] = Int64GetDatum(watchdog_verdict_value(v->starting));
	values[i++] = Int64GetDatum(watchdog_verdict_value(v->spared));
	nulls[i] = why == NULL;
	values[i++] = why ? CStringGetTextDatum(why) : (Datum) 0;
	values[i++] = Int64GetDatum(watchdog_verdict_value(v->left));
	nulls[i] = gone_us == 0;
	values[i++] = interval_of(gone_us);
	Assert(i == VERDICT_COLUMNS);
	tuplestore_putvalues(store, desc, values, nulls);
}

/* The oldest one first. */
Datum
pgx_stat_get_watchdog_verdicts(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Tuplestorestate *store = watchdog_begin_rows(fcinfo, VERDICT_COLUMNS,
												 VERDICT_COLUMNS, &desc);
	uint64		last = wd_load(&watchdog_history->last);

	for (uint32 i = 0; i < watchdog_history->size; i++)
	{
		WatchdogVerdict v;
		uint32		place = (last + 1 + i) % watchdog_history->size;

		if (watchdog_read_verdict(place, &v) && v.number <= last)
			put_verdict(store, desc, &v);
	}
	return (Datum) 0;
}
