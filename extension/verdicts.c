/*
 * verdicts.c
 *	  Which sessions a verdict means: by the label of its conmgr, and by the
 *	  addresses that it has proved.
 *
 * Runs in the terminator and in every session that starts or looks at the
 * view. Reads shared memory; takes no lock, blocks on nothing.
 *
 * The label is exact: a session that carries it ends, wherever it comes from.
 * By address ends what has no label, or one that tells nothing: no conmgr that
 * is known has it, or the one that has it has not proved that address. What
 * carries the label of another conmgr that lives is that one's. Whose verdict
 * is put off for whose sake is decided in terminator/ (Go).
 *
 * And which sessions have to go when this server is drained, and when.
 */
#include "watchdog.h"

#include <netinet/in.h>

#include "utils/memutils.h"

/*
 * So long after drain_grace a session is ended only where it has been idle for
 * long: its client's pool is likely to look whether it is there before using
 * it. After that, wherever it is between transactions.
 */
#define IDLE_FIRST_MS	5000

/* So often a conmgr may have been followed by another one. */
#define MAX_HEIRS	16

static const uint8 no_label[16] = {0};

const char *
watchdog_cause_text(uint8 cause)
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

static int
compare_labels(const void *a, const void *b, void *arg)
{
	const WatchdogSlot *slots = arg;

	return memcmp(slots[*(const uint32 *) a].label,
				  slots[*(const uint32 *) b].label, sizeof(no_label));
}

/*
 * All slots as they are now, in the current memory context. One that stays
 * odd, as its writer has died in the middle, is taken as it is: what counts of
 * it changes seldom.
 */
WatchdogSlots *
watchdog_read_slots(void)
{
	WatchdogSlots *all = palloc(sizeof(WatchdogSlots));
	uint32		n = watchdog_shared->nslots;

	all->n = n;
	all->nlabels = 0;
	all->slots = palloc_extended(n * sizeof(WatchdogSlot), MCXT_ALLOC_HUGE);
	all->by_label = palloc_extended(n * sizeof(uint32), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < n; i++)
	{
		WatchdogSlot *slot = &all->slots[i];

		(void) watchdog_read_slot(&watchdog_shared->slots[i], slot);
		slot->naddrs = Min(slot->naddrs, WD_SLOT_ADDRESSES);
		for (int a = 0; a < slot->naddrs; a++)
			watchdog_fold_loopback(slot->addr[a]);
		if (memcmp(slot->label, no_label, sizeof(no_label)) != 0)
			all->by_label[all->nlabels++] = i;
	}
	qsort_arg(all->by_label, all->nlabels, sizeof(uint32), compare_labels,
			  all->slots);
	return all;
}

void
watchdog_free_slots(WatchdogSlots *all)
{
	pfree(all->by_label);
	pfree(all->slots);
	pfree(all);
}

/* Is it connected, or may resume? */
bool
watchdog_is_awaited(const WatchdogSlot *slot)
{
	return (slot->state == WD_SLOT_CONNECTED ||
			slot->state == WD_SLOT_WAITING) &&
		slot->deferred == 0 && !slot->remembered;
}

/*
 * What stands for a label: a conmgr that is awaited, or else a slot whose
 * conmgr has an heir, or any. A conmgr that came back after a verdict has two.
 */
static const WatchdogSlot *
find_label(const WatchdogSlots *all, const uint8 *label)
{
	const WatchdogSlot *found = NULL;
	uint32		low = 0;
	uint32		high = all->nlabels;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;

		if (memcmp(all->slots[all->by_label[middle]].label, label,
				   sizeof(no_label)) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < all->nlabels; low++)
	{
		const WatchdogSlot *slot = &all->slots[all->by_label[low]];

		if (memcmp(slot->label, label, sizeof(no_label)) != 0)
			break;
		if (watchdog_is_awaited(slot))
			return slot;
		if (found == NULL ||
			memcmp(slot->heir, no_label, sizeof(no_label)) != 0)
			found = slot;
	}
	return found;
}

/*
 * The conmgr that answers for a session by its label, NULL: none. carried, if
 * not NULL, is a label: *is_carried tells whether the session's, or one of
 * those that have been taken over, is that.
 */
static const WatchdogSlot *
owner_of(const WatchdogSlots *all, const WatchdogSession *session,
		 const uint8 *carried, bool *is_carried)
{
	const uint8 *label = session->label;

	*is_carried = false;
	for (int i = 0; i < MAX_HEIRS; i++)
	{
		const WatchdogSlot *slot;

		if (memcmp(label, no_label, sizeof(no_label)) == 0)
			return NULL;
		if (carried != NULL && memcmp(label, carried, sizeof(no_label)) == 0)
			*is_carried = true;
		slot = find_label(all, label);
		if (slot == NULL || watchdog_is_awaited(slot))
			return slot;
		label = slot->heir;
	}
	return NULL;
}

/* The conmgr that is awaited and answers for a session by its label. */
const WatchdogSlot *
watchdog_owner(const WatchdogSlots *all, const WatchdogSession *session)
{
	bool		unused;

	return owner_of(all, session, NULL, &unused);
}

/* Which of its addresses is the session's? -1: none. */
int
watchdog_has_proved(const WatchdogSlot *slot, const WatchdogSession *session)
{
	for (int i = 0; i < slot->naddrs; i++)
	{
		if (memcmp(slot->addr[i], session->addr, sizeof(session->addr)) == 0 &&
			slot->scope[i] == session->scope)
			return i;
	}
	return -1;
}

/*
 * Does the conmgr that answers for a session keep it from the verdict in a
 * slot, which is on the session's address? Only where it has proved that
 * address: anybody could have made the label up. And if it has closed its
 * connection, it proves nothing for its own machine, of which another conmgr
 * has died. If that one has only ended, who was granted a grace is waited for.
 * Keeps() in terminator/ (Go) is the same rule.
 */
static bool
keeps(const WatchdogSlot *owner, const WatchdogSlot *slot,
	  const WatchdogSession *session)
{
	if (owner == NULL || watchdog_has_proved(owner, session) < 0)
		return false;
	return owner->closed == 0 ||
		(owner->closed != WD_CLOSED_RESET && owner->grace_ms > 0 &&
		 slot->cause != WD_CAUSE_SILENCE) ||
		memcmp(owner->boot, slot->boot, sizeof(owner->boot)) != 0;
}

/* The cut-off by which the verdict in a slot means this session. 0: it does not. */
int64
watchdog_means(const WatchdogSlots *all, const WatchdogSlot *slot,
			   const WatchdogSession *session)
{
	const WatchdogSlot *owner;
	bool		is_carried;
	int			a;

	if (slot->cutoff == 0 && slot->ended == 0)
		return 0;
	owner = owner_of(all, session, slot->label, &is_carried);
	if (is_carried && session->heard <= slot->cutoff)
		return slot->cutoff;
	a = watchdog_has_proved(slot, session);
	if (a < 0 || (slot->ended & (1 << a)) == 0 ||
		session->heard > slot->addr_time[a])
		return 0;
	return keeps(owner, slot, session) ? 0 : slot->addr_time[a];
}

/*
 * Walsenders, and applications of the setting. An application names itself,
 * which proves nothing: so a name protects from no end by silence.
 */
bool
watchdog_ends_by_silence_only(const WatchdogSession *session,
							  List *applications)
{
	ListCell   *lc;

	if (session->walsender)
		return true;
	foreach(lc, applications)
	{
		if (strcmp((char *) lfirst(lc), session->application) == 0)
			return true;
	}
	return false;
}

static bool
is_over(int64 now, int64 since, int ms, int more_ms)
{
	return ms >= 0 &&
		now - since >= ((int64) ms + more_ms) * INT64CONST(1000000);
}

/*
 * What a drain wants of a session. It means those that began before it: whoever
 * comes all the same has a reason, and a pooler that is thrown out comes again
 * for ever. What ends by silence only stays: the standby that is to take over
 * has to receive everything.
 */
WatchdogLeave
watchdog_leave(const WatchdogDrain *drain, const WatchdogSession *session,
			   List *applications, int64 now)
{
	if (drain->since == 0 || session->began >= drain->since ||
		watchdog_ends_by_silence_only(session, applications))
		return WD_STAYS;
	if (is_over(now, drain->since, drain->limit_ms, 0))
		return WD_LEAVES_NOW;
	if (is_over(now, drain->since, drain->grace_ms, IDLE_FIRST_MS))
		return WD_LEAVES_BETWEEN;
	if (is_over(now, drain->since, drain->grace_ms, 0))
		return WD_LEAVES_IDLE;
	return WD_LEAVES;
}
