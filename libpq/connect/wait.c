/*
 * wait.c: how long the application is ready to wait for an instance: what it
 * says itself, as a setting among its options (-c conmgr.target_wait=5s,
 * also by PGOPTIONS), else conmgr's own target_wait; never up to its
 * connect_timeout. Run by the application's thread that connects; blocks on
 * nothing.
 *
 * The waiting itself is conmgr's (SHOW TARGET ... WAIT): here, it is an answer
 * that takes its time.
 */
#include "steps.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- durations, in ms ---- */

/* As conmgr.conf has them. -1: it is none. */
static int64_t
duration(const char *text)
{
	static const struct
	{
		const char *name;
		int64_t		ms;
	}			units[] = {
		{"", 1000}, {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000},
		{"d", 86400000}
	};
	size_t		n = strspn(text, "0123456789");
	const char *unit = text + n;

	while (*unit == ' ' || *unit == '\t')
		unit++;
	for (size_t i = 0; n > 0 && n <= 10 &&
		 i < sizeof units / sizeof units[0]; i++)
		if (!strcmp(unit, units[i].name))
			return strtoll(text, NULL, 10) * units[i].ms;
	return -1;
}

/* connect_timeout: 0 for none; -1 if it is no number. */
int64_t
options_timeout(const Options *o)
{
	const char *value = options_get(o, "connect_timeout");
	char	   *end;
	long		n;

	if (!value)
		return 0;
	errno = 0;
	n = strtol(value, &end, 10);
	while (*end && isspace((unsigned char) *end))
		end++;
	if (end == value || *end || errno || n > INT_MAX || n < INT_MIN)
		return -1;
	if (n <= 0)
		return 0;
	if (n == 1 && real.PQlibVersion() < 170000)
		n = 2;					/* as libpq does: its clock counted seconds */
	return (int64_t) n * 1000;
}

/* ---- waiting ---- */

/* What is left of connect_timeout for the instance that conmgr names. */
#define FOR_THE_INSTANCE 1000

/*
 * Instances that have refused are passed over for so long, where nobody else
 * has the attribute: they may have been starting.
 */
#define UNTIL_TRIED_AGAIN 250

/* How long it may still wait; -1: that is conmgr's to say. */
int64_t
wait_left(const Connection *c)
{
	const Offers *offers = link_offers(c->link);
	const char *given = c->options.wait;
	int64_t		left = given ? duration(given) : offers->target_wait;
	int64_t		timeout = options_timeout(&c->options);
	int64_t		now = monotonic_ms();
	int64_t		most;

	if (c->impatient || !offers->wait)
		return 0;
	if (left <= 0)
		return left;
	if (c->wait_began)
		left -= now - c->wait_began;
	most = c->began + timeout - FOR_THE_INSTANCE - now;
	if (timeout > 0 && left > most)
		left = most;
	return left > 0 ? left : 0;
}

/* What is said of it in the question. False: nothing. */
bool
wait_text(Connection *c, Text *out)
{
	int64_t		left = wait_left(c);

	if (!link_offers(c->link)->wait)
		return false;
	if (left < 0 && c->options.wait)
	{
		text_add(out, c->options.wait); /* conmgr says what is wrong */
		return true;
	}
	if (left < 0 && c->waiting)
		return false;
	if (!c->waiting)
		left = 0;
	else if (!c->wait_began)
		c->wait_began = monotonic_ms();
	if (c->refusals > 0 && left > UNTIL_TRIED_AGAIN)
		left = UNTIL_TRIED_AGAIN;
	text_addf(out, "%lldms", (long long) left);
	return true;
}
