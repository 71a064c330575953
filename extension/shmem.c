/*
 * shmem.c
 *	  The shared memory of watchdog: one slot for each conmgr, the table of
 *	  sessions, and the workers' latches.
 *
 * Reading takes no lock; see WatchdogSlot in bridge.h for the rules.
 */
#include "watchdog.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

WatchdogShared *watchdog_shared = NULL;
WatchdogSession *watchdog_sessions = NULL;
uint32		watchdog_nsessions = 0;

static shmem_startup_hook_type prev_shmem_startup_hook = NULL;
#if WD_HAVE_SHMEM_REQUEST_HOOK
static shmem_request_hook_type prev_shmem_request_hook = NULL;
#endif

/*
 * A copy is taken in nanoseconds; a slot that stays odd is one whose writer
 * died in the middle.
 */
#define READ_ATTEMPTS 100

static Size
shared_size(void)
{
	return add_size(offsetof(WatchdogShared, slots),
					mul_size(watchdog_max_heartbeat_connections, sizeof(WatchdogSlot)));
}

static void
request_shmem(void)
{
#if WD_HAVE_SHMEM_REQUEST_HOOK
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
#endif
	RequestAddinShmemSpace(add_size(add_size(shared_size(), watchdog_table_size()),
									add_size(watchdog_history_size(), watchdog_report_size())));
	RequestNamedLWLockTranche(WATCHDOG_TRANCHE, 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	watchdog_shared = ShmemInitStruct("watchdog", shared_size(), &found);
	if (!found)
	{
		memset(watchdog_shared, 0, shared_size());
		SpinLockInit(&watchdog_shared->mutex);
		watchdog_shared->nslots = watchdog_max_heartbeat_connections;
		watchdog_init_drain();
		watchdog_reset_totals();
	}
	watchdog_make_report();
	watchdog_make_history();
	watchdog_make_table();
	LWLockRelease(AddinShmemInitLock);
}

void
watchdog_shmem_init(void)
{
#if WD_HAVE_SHMEM_REQUEST_HOOK
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
#else
	request_shmem();
#endif
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

/*
 * Copy what is written under a serial. false: it is being written, or was when
 * its writer died, and the copy may be half of one and half of the other.
 */
bool
watchdog_read_serial(const uint32 *serial, const void *from, void *copy, Size size)
{
	for (int i = 0; i < READ_ATTEMPTS; i++)
	{
		uint32		before = wd_load(serial);

		if ((before & 1) == 0)
		{
			memcpy(copy, from, size);
			pg_read_barrier();
			if (wd_load(serial) == before)
				return true;
		}
		pg_spin_delay();
	}
	return false;
}

bool
watchdog_read_slot(const WatchdogSlot *slot, WatchdogSlot *copy)
{
	return watchdog_read_serial(&slot->serial, slot, copy, sizeof(*copy));
}

/*
 * A worker's latch, for the others to set: NULL when it ends. Latches of
 * processes live in shared memory for ever, so one that was read and is not
 * its owner's any more is set for nothing, which does no harm.
 */
void
watchdog_publish_latch(Latch **place, Latch *latch)
{
	SpinLockAcquire(&watchdog_shared->mutex);
	*place = latch;
	SpinLockRelease(&watchdog_shared->mutex);
}

Latch *
watchdog_published_latch(Latch **place)
{
	Latch	   *latch;

	SpinLockAcquire(&watchdog_shared->mutex);
	latch = *place;
	SpinLockRelease(&watchdog_shared->mutex);
	return latch;
}

/* SetLatch() is a system call: never under the spinlock. */
void
watchdog_set_latch(Latch **place)
{
	Latch	   *latch = watchdog_published_latch(place);

	if (latch != NULL)
		SetLatch(latch);
}
