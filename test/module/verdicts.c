/*
 * verdicts.c
 *	  A program for tests: the ring of the last verdicts, written over between
 *	  two steps of those who add to it. Prints what is wrong; exit status 1
 *	  then.
 *
 * extension/history.c itself, with memory of its own in place of the server's.
 * Its calls of the server are not reached.
 */
#include "../../extension/history.c"

#define SIZE	2

static int	failures = 0;

static void
expect(const char *what, int64 got, int64 want)
{
	if (got == want)
		return;
	failures++;
	printf("%s: %lld, want %lld\n", what, (long long) got, (long long) want);
}

/* What cgo/history.go does. */
static void
put(uint64 number, uint32 slot, uint32 verdict)
{
	WatchdogVerdict *v = place_of(number);
	uint64	   *words[] = {&v->served, &v->signaled, &v->starting,
	&v->spared, &v->left, &v->gone_us};

	v->slot = slot;
	v->verdict = verdict;
	v->number = number;
	v->decided_mono = wd_monotonic_now();
	for (int i = 0; i < lengthof(words); i++)
		*words[i] = number << WD_WORD_BITS;
	v->serial += 2;
}

static void
written_over(void)
{
	WatchdogVerdict *v = place_of(1);
	WatchdogSession row = {0};
	uint64		number;

	put(1, 7, 5);
	number = watchdog_find_verdict(7, 5);
	expect("the number of a verdict", number, 1);
	v->serial++;
	expect("one that is being written", watchdog_find_verdict(7, 5), 0);
	v->serial++;
	expect("one of another slot", watchdog_find_verdict(6, 5), 0);
	(void) watchdog_expect_end(&row, number);
	put(1 + SIZE, 7, 6);
	watchdog_verdict_starting(number);
	watchdog_verdict_served(number, false, 3, 2);
	watchdog_has_ended(&row);
	expect("served", watchdog_verdict_value(v->served), 0);
	expect("signaled", watchdog_verdict_value(v->signaled), 0);
	expect("starting", watchdog_verdict_value(v->starting), 0);
	expect("spared", watchdog_verdict_value(v->spared), 0);
	expect("left", watchdog_verdict_value(v->left), 0);
	expect("gone", watchdog_verdict_value(v->gone_us), 0);
	watchdog_verdict_served(1 + SIZE, true, 3, 2);
	expect("its own", watchdog_verdict_value(v->served), WD_SERVED_REPORT);
	expect("its own, signaled", watchdog_verdict_value(v->signaled), 3);
}

/*
 * A session counts for the first verdict that has told it to end, and for that
 * until it has gone.
 */
static void
two_verdicts(void)
{
	WatchdogVerdict *first = place_of(10);
	WatchdogVerdict *second = place_of(11);
	WatchdogSession row = {0};

	put(10, 7, 8);
	put(11, 7, 9);
	expect("told by the first", watchdog_expect_end(&row, 10), true);
	expect("told by the first again", watchdog_expect_end(&row, 10), true);
	watchdog_verdict_served(10, false, 1, 0);
	expect("told by the second", watchdog_expect_end(&row, 11), false);
	watchdog_verdict_served(11, false, 0, 0);
	expect("left, first", watchdog_verdict_value(first->left), 1);
	expect("left, second", watchdog_verdict_value(second->left), 0);
	expect("there, gone by the first", gone_after(first), 0);
	expect("there, gone by the second", gone_after(second), 0);
	watchdog_has_ended(&row);
	expect("gone, left of the first", watchdog_verdict_value(first->left), 0);
	expect("gone by the first", gone_after(first) > 0, true);
	expect("gone by the second", gone_after(second), 0);
}

/* The first session has gone before the terminator comes to the second. */
static void
two_sessions(void)
{
	WatchdogVerdict *v = place_of(12);
	WatchdogSession rows[2] = {0};

	put(12, 7, 10);
	(void) watchdog_expect_end(&rows[0], 12);
	watchdog_has_ended(&rows[0]);
	expect("gone in the middle of the pass", gone_after(v), 0);
	(void) watchdog_expect_end(&rows[1], 12);
	watchdog_verdict_served(12, false, 2, 0);
	expect("gone, and one is there", gone_after(v), 0);
	watchdog_has_ended(&rows[1]);
	expect("both have gone", gone_after(v) > 0, true);
}

int
main(void)
{
	watchdog_history = calloc(1, offsetof(WatchdogHistory, verdicts) +
							  SIZE * sizeof(WatchdogVerdict));
	watchdog_history->size = SIZE;
	written_over();
	two_verdicts();
	two_sessions();
	return failures > 0;
}
