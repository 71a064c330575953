/*
 * lag.c
 *	  How far a standby is behind, for the heartbeats: bytes of WAL and time.
 *
 * Runs in the watchdog worker's main thread, each time that it is awake for
 * something else, and so at least once a second: Go, which sends heartbeats,
 * must not call PostgreSQL. Takes spinlocks of a few instructions; blocks on
 * nothing.
 *
 * Both are of what the walreceiver has been told: the end of WAL at its
 * sender, as of the last message, against what has been replayed, as of now.
 * Another instance's word is not needed, nor is its clock.
 *
 * The time is that since WAL is known of that has not been replayed yet. The
 * server does not keep that. (The time of the last transaction that was
 * replayed is the sender's clock, and an hour old after a quiet hour; that of
 * the chunk being replayed stands still while replay never quite catches up.)
 * So we remember where WAL ended when we looked, as a walsender does for its
 * replay_lag: each time a thirty-second of the time behind later, so that the
 * time told is too short by a sixteenth at most.
 */
#include "watchdog.h"

#include "replication/walreceiver.h"
#include "utils/timestamp.h"

/*
 * For so long after it has connected, a walreceiver's sender may not have
 * said yet where its WAL ends. A sender with nothing to send says nothing.
 */
#define FIRST_MESSAGE_NS	INT64CONST(2000000000)

/* A walreceiver that is connected, and since when we have seen it so. */
static pid_t receiver = 0;
static int64 receiver_since = 0;

/* Where WAL ended when we looked: ns, CLOCK_MONOTONIC. */
typedef struct Mark
{
	XLogRecPtr	end;
	int64		seen;
} Mark;

#define MARKS	128

/* What is not replayed yet, in order. */
static Mark marks[MARKS];
static int	nmarks = 0;

static XLogRecPtr first_end = InvalidXLogRecPtr;	/* when we began to look */
static int64 paused_since = 0;	/* 0: replay is not paused */

/*
 * Where does WAL end, as the sender has told a walreceiver that is connected?
 */
static bool
known_end(XLogRecPtr *end, int64 now)
{
	pid_t		pid;
	bool		told;
	TimestampTz received;

	if (WalRcv == NULL)
		return false;
	SpinLockAcquire(&WalRcv->mutex);
	pid = WalRcv->ready_to_display && WalRcv->walRcvState == WALRCV_STREAMING ?
		WalRcv->pid : 0;
	*end = WalRcv->latestWalEnd;
	received = WalRcv->lastMsgReceiptTime;
	/* until a message has come, both are the time of its start */
	told = received != WalRcv->lastMsgSendTime;
	SpinLockRelease(&WalRcv->mutex);

	if (pid != receiver)
	{
		receiver = pid;
		receiver_since = now;
	}
	return pid != 0 &&
		(told || now - receiver_since >= FIRST_MESSAGE_NS) &&
		(wal_receiver_timeout == 0 ||	/* else it was stopped, or hangs */
		 !TimestampDifferenceExceeds(received, GetCurrentTimestamp(),
									 wal_receiver_timeout));
}

/* Remember where WAL ends, and forget what is replayed. */
static void
mark_end(XLogRecPtr end, XLogRecPtr replayed, int64 now)
{
	int			kept = 0;

	/* An end may be nearer than before: that of another timeline. */
	for (int i = 0; i < nmarks; i++)
		if (marks[i].end > replayed && marks[i].end <= end)
			marks[kept++] = marks[i];
	nmarks = kept;
	if (end <= replayed)
		return;
	if (nmarks > 0 && (end == marks[nmarks - 1].end ||
					   now - marks[nmarks - 1].seen < (now - marks[0].seen) / 32))
		return;
	if (nmarks == MARKS)
	{
		nmarks = MARKS / 2;
		for (int i = 0; i < nmarks; i++)
			marks[i] = marks[2 * i];
	}
	marks[nmarks].end = end;
	marks[nmarks++].seen = now;
}

/*
 * For how long, in ms, has WAL been known of that is not replayed? That is
 * not known of what was there when we began to look.
 */
static uint32
time_behind(XLogRecPtr end, XLogRecPtr replayed, int64 now)
{
	int64		ns;

	mark_end(end, replayed, now);

	/* What is paused falls behind, whether or not there is news yet. */
	if (!wd_replay_is_paused())
		paused_since = 0;
	else if (paused_since == 0)
		paused_since = now;

	if (first_end == InvalidXLogRecPtr)
		first_end = Max(end, 1);
	if (replayed < first_end)
		return WD_LAG_UNKNOWN_MS;
	ns = Max(nmarks > 0 ? now - marks[0].seen : 0,
			 paused_since != 0 ? now - paused_since : 0);
	return (uint32) Min(ns / 1000000, WD_LAG_UNKNOWN_MS - 1);
}

/* Tell Go, which sends it with what it sends anyway. */
void
watchdog_show_lag(WatchdogBridge *bridge, int64 now)
{
	XLogRecPtr	end,
				replayed;

	if (!RecoveryInProgress() || !known_end(&end, now))
	{
		nmarks = 0;
		first_end = InvalidXLogRecPtr;
		wd_store(&bridge->lag_bytes, WD_LAG_UNKNOWN_BYTES);
		wd_store(&bridge->lag_ms, WD_LAG_UNKNOWN_MS);
		return;
	}
	replayed = GetXLogReplayRecPtr(NULL);
	wd_store(&bridge->lag_bytes, end > replayed ? end - replayed : 0);
	wd_store(&bridge->lag_ms, time_behind(end, replayed, now));
}
