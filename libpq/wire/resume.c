/*
 * resume.c: bound again to the very instance that an application is connected
 * to, when its conmgr was away (restarted, upgraded, killed): connects to
 * where that conmgr was, and asks it by the word that it gave for this,
 * RESUME, until it answers or the time is over. Run by the watcher thread,
 * under its lock; blocks on nothing, but that where netlink is forbidden
 * /proc/net/tcp is read (owner.c).
 *
 * The process that answers must be of the user who was believed before: no
 * user is looked up here, and no environment.
 */
#include "link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_PAUSE 50			/* ms between two attempts, doubled ... */
#define LONGEST_PAUSE 1000

struct Resume
{
	/* what is known from the beginning */
	Place		place;
	Text		startup;
	const char *attribute;
	Text		statement;
	Belief		belief;
	int64_t		grace;			/* as conmgr has announced it */

	/* while it is away; times of CLOCK_MONOTONIC in ms */
	int64_t		within;			/* as it was granted at the end */
	int64_t		deadline;
	int64_t		due;			/* the next attempt */
	int64_t		pause;
	CmLink	   *link;			/* the attempt that is under way; NULL: none */
	bool		asked;			/* it has our question: conmgr is back, and
								 * takes its time */
};

/* NULL: this conmgr cannot, or memory ran out: its end is a loss. */
Resume *
resume_of(const CmLink *link)
{
	const char *token = link->target.resume;
	Resume	   *r;

	if (!link->offers.resume || !token || !*token || !link->place.size ||
		!link->attribute || !(r = calloc(1, sizeof *r)))
		return NULL;
	r->place = link->place;
	text_addn(&r->startup, text_of(&link->startup), link->startup.len);
	r->attribute = link->attribute;
	text_addf(&r->statement, "SHOW TARGET %s RESUME ", link->attribute);
	text_add_literal(&r->statement, token);
	if (link->offers.notify)
		text_add(&r->statement, " NOTIFY");
	r->belief = link->belief;
	r->grace = link->offers.grace;
	if (!r->startup.broken && !r->statement.broken)
		return r;
	resume_free(r, true);
	return NULL;
}

/* Quietly: as link_close. */
void
resume_free(Resume *r, bool quietly)
{
	if (!r)
		return;
	link_close(r->link, quietly);
	text_free(&r->startup);
	text_free(&r->statement);
	free(r);
}

int64_t
resume_grace(const Resume *r)
{
	return r->grace;
}

void
resume_begin(Resume *r, int64_t now, int64_t within)
{
	r->within = within;
	r->deadline = now + within;
	resume_anew(r, now);
}

/* The first attempt is now; one that is under way is another process's. */
void
resume_anew(Resume *r, int64_t now)
{
	link_close(r->link, true);
	r->link = NULL;
	r->asked = false;
	r->due = now;
	r->pause = FIRST_PAUSE;
}

/* Of the attempt that is under way, or that has just succeeded; or NULL. */
CmLink *
resume_link(const Resume *r)
{
	return r->link;
}

/* It is connecting, and not known yet to be a conmgr. */
bool
resume_knocks(const Resume *r)
{
	return r->link && !r->asked;
}

/* When resume_step is due, if the socket does not wake it before. */
int64_t
resume_due(const Resume *r)
{
	return r->link || r->due > r->deadline ? resume_deadline(r) : r->due;
}

/* Who has our question is not hurried. */
int64_t
resume_deadline(const Resume *r)
{
	return r->asked ? INT64_MAX : r->deadline;
}

static ResumeStep
again_later(Resume *r, int64_t now)
{
	link_close(r->link, false);
	r->link = NULL;
	r->asked = false;
	r->due = now + r->pause;
	r->pause = r->pause * 2 < LONGEST_PAUSE ? r->pause * 2 : LONGEST_PAUSE;
	return RESUME_WAITS;
}

static ResumeStep
failed(Resume *r, int64_t now, char *said, size_t size)
{
	if (!r->asked || !link_tells_of_loss(r->link))
		return again_later(r, now);
	snprintf(said, size, "%.*s", (int) strcspn(link_error(r->link), "\n"),
			 link_error(r->link));
	return RESUME_LOST;
}

/* A conmgr has announced itself. */
static ResumeStep
met(Resume *r, int64_t now, char *said, size_t size)
{
	if (!link_is_believed_again(r->link, &r->belief))
		return again_later(r, now);
	if (!link_offers(r->link)->resume)
	{
		snprintf(said, size, "the Connection Manager that has come back "
				 "cannot go on with this connection");
		return RESUME_LOST;
	}
	link_query(r->link, r->attribute, &r->statement);
	r->asked = true;
	return RESUME_WAITS;
}

ResumeStep
resume_step(Resume *r, int64_t now, char *said, size_t size)
{
	ResumeStep	step;

	if (now >= resume_deadline(r))
	{
		snprintf(said, size, "the Connection Manager has not come back "
				 "within %lld ms", (long long) r->within);
		return RESUME_LOST;
	}
	if (!r->link && now < r->due)
		return RESUME_WAITS;
	if (!r->link && !(r->link = link_again(&r->place, &r->startup)))
		return again_later(r, now);
	for (;;)
		switch (link_step(r->link))
		{
			case LINK_READ:
			case LINK_WRITE:
				return RESUME_WAITS;
			case LINK_READY:
				step = met(r, now, said, size);
				if (!r->asked)
					return step;
				break;
			case LINK_TARGET:
				return RESUME_BOUND;
			default:
				return failed(r, now, said, size);
		}
}
