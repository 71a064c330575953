/*
 * answer.c: what conmgr says, taken apart: messages of protocol 3.0 from the
 * server's side. Run by the application's thread that connects, and by the
 * watcher thread; never blocks.
 * Lengths are bounded, and nothing is believed beyond the message that it is
 * in.
 */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MAX_MESSAGE (64 * 1024)
#define MAX_ANSWER (256 * 1024) /* a peer that never ends would hold whoever
								 * asks, past his connect_timeout */

static const char *const column_names[CM_COLUMNS] = {
	CM_COLUMN_NAMES
};

static uint32_t
get32(const char *p)
{
	uint32_t	n;

	memcpy(&n, p, 4);
	return ntohl(n);
}

/* The strings of a message lie between p and end, or it is refused. */
static const char *
string_at(const char **p, const char *end)
{
	const char *s = *p;
	const char *zero = memchr(s, 0, (size_t) (end - s));

	if (!zero)
		return NULL;
	*p = zero + 1;
	return s;
}

static void
take_error(CmLink *link, const char *p, const char *end)
{
	const char *message = NULL;
	const char *detail = NULL;

	while (p < end && *p)
	{
		char		field = *p++;
		const char *s = string_at(&p, end);

		if (!s)
			break;
		if (field == 'M')
			message = s;
		else if (field == 'D')
			detail = s;
		else if (field == 'C')
			snprintf(link->sqlstate, sizeof link->sqlstate, "%s", s);
	}
	link->got_error = true;
	text_cut(&link->error, 0);
	text_addf(&link->error, "%s\n", message ? message : "no message");
	if (detail)
		text_addf(&link->error, "DETAIL:  %s\n", detail);
}

/*
 * The columns are found by their names, as later versions may have more, and
 * older ones fewer; each once.
 */
static bool
take_columns(CmLink *link, const char *p, const char *end)
{
	const int	needed = (1 << CM_OLD_COLUMNS) - 1;
	int			seen = 0;

	if (end - p < 2 || link->fields)
		return false;
	link->fields = (unsigned char) p[0] << 8 | (unsigned char) p[1];
	p += 2;
	for (int c = 0; c < CM_COLUMNS; c++)
		link->columns[c] = -1;
	for (int i = 0; i < link->fields; i++)
	{
		const char *name = string_at(&p, end);

		if (!name || end - p < 18)
			return false;
		p += 18;
		for (int c = 0; c < CM_COLUMNS; c++)
			if (!strcmp(name, column_names[c]))
			{
				if (seen & 1 << c)
					return false;
				seen |= 1 << c;
				link->columns[c] = i;
			}
	}
	return (seen & needed) == needed;
}

/*
 * The values of a row. False: it is not as long as it says, or there is no
 * memory for a value, or one would be cut at its zero byte.
 */
static bool
take_values(CmLink *link, const char *p, const char *end,
			char **to[CM_COLUMNS])
{
	for (int i = 0; i < link->fields; i++)
	{
		int32_t		len;

		if (end - p < 4)
			return false;
		len = (int32_t) get32(p);
		p += 4;
		if (len > end - p)
			return false;
		for (int c = 0; c < CM_COLUMNS; c++)
			if (link->columns[c] == i && len >= 0 &&
				(memchr(p, 0, (size_t) len) ||
				 !(*to[c] = strndup(p, (size_t) len))))
				return false;
		if (len > 0)
			p += len;
	}
	return p == end;
}

/* One row, as it was described, with a value where all conmgrs have one. */
static bool
take_row(CmLink *link, const char *p, const char *end)
{
	char	   *attributes = NULL;
	char	  **to[CM_COLUMNS] = {
		[CM_COL_INSTANCE] = &link->target.instance,
		[CM_COL_HOST] = &link->target.host,
		[CM_COL_HOSTADDR] = &link->target.hostaddr,
		[CM_COL_PORT] = &link->target.port,
		[CM_COL_ATTRIBUTES] = &attributes,
		[CM_COL_CLIENT] = &link->target.client,
		[CM_COL_RESUME] = &link->target.resume
	};
	bool		sound;

	if (link->got_target)
		text_add(&link->error, "the answer has more than one row\n");
	if (end - p < 2 || !link->fields || link->got_target ||
		((unsigned char) p[0] << 8 | (unsigned char) p[1]) != link->fields)
		return false;
	sound = take_values(link, p + 2, end, to) && attributes &&
		link->target.instance && link->target.host && link->target.hostaddr &&
		link->target.port;
	free(attributes);
	return link->got_target = sound;
}

/* Is the word one of a list that is separated by commas? */
static bool
is_listed(const char *list, const char *word)
{
	size_t		len = strlen(word);

	for (const char *p = list; *p;)
	{
		size_t		n = strcspn(p, ",");

		if (n == len && !strncmp(p, word, n))
			return true;
		p += n + (p[n] == ',');
	}
	return false;
}

/* What is no number of milliseconds is none at all. */
static int64_t
milliseconds(const char *value)
{
	size_t		n = strlen(value);

	return n > 0 && n <= 10 && strspn(value, "0123456789") == n ?
		strtoll(value, NULL, 10) : -1;
}

/* A parameter that conmgr announces at its startup. */
void
link_announce(CmLink *link, const char *parameter, const char *value)
{
	Offers	   *o = &link->offers;

	if (!strcmp(parameter, CM_VERSION_PARAMETER))
		link->is_conmgr = true;
	else if (!strcmp(parameter, CM_FEATURES_PARAMETER))
	{
		o->wait = is_listed(value, CM_FEATURE_WAIT);
		o->notify = is_listed(value, CM_FEATURE_NOTIFY);
		o->resume = is_listed(value, CM_FEATURE_RESUME);
	}
	else if (!strcmp(parameter, CM_TARGET_WAIT_PARAMETER))
		o->target_wait = milliseconds(value);
	else if (!strcmp(parameter, CM_GRACE_PARAMETER))
		o->grace = milliseconds(value) > 0 ? milliseconds(value) : 0;
}

/* One message from the buffer. False: not what a conmgr says. */
static bool
take(CmLink *link, char type, const char *p, const char *end, bool *ready)
{
	const char *name;
	const char *value;

	switch (type)
	{
		case 'R':
			/* AuthenticationOk: conmgr asks for nothing */
			return end - p == 4 && get32(p) == 0;
		case 'S':
			if ((name = string_at(&p, end)) && (value = string_at(&p, end)))
				link_announce(link, name, value);
			return true;
		case 'Z':
			*ready = true;
			return true;
		case 'E':
			take_error(link, p, end);
			return true;
		case 'T':
			return take_columns(link, p, end);
		case 'D':
			return take_row(link, p, end);
		default:
			return true;
	}
}

/* The length of the message at p, 0: its header is not there yet. */
static size_t
message_length(const char *p, size_t len)
{
	return len < 5 ? 0 : 1 + (size_t) get32(p + 1);
}

/*
 * How many of the bytes belong to the answer: those up to ReadyForQuery, or
 * all if it is not among them.
 */
static size_t
of_answer(const char *in, size_t len)
{
	size_t		done = 0;

	for (;;)
	{
		size_t		n = message_length(in + done, len - done);

		if (n < 5 || n > len - done)
			return len;
		if (in[done] == 'Z')
			return done + n;
		done += n;
	}
}

/*
 * Takes the messages that are whole. LINK_READ: more has to come; what has
 * come of it is at the buffer's beginning.
 */
static LinkStep
take_messages(CmLink *link)
{
	size_t		done = 0;
	bool		ready = false;

	while (!ready)
	{
		const char *p = link->in + done;
		size_t		left = link->in_len - done;
		size_t		n = message_length(p, left);

		if (left >= 5 && (n < 5 || n > MAX_MESSAGE))
			return LINK_STRANGER;
		if (n == 0 || n > left)
			break;
		if (!take(link, *p, p + 5, p + n, &ready))
			return LINK_STRANGER;
		done += n;
	}
	link->in_len -= done;
	memmove(link->in, link->in + done, link->in_len);
	return ready ? LINK_READY : LINK_READ;
}

/* For all of the message that has begun, which has not come yet. */
static bool
make_room(CmLink *link)
{
	size_t		n = message_length(link->in, link->in_len);
	char	   *bigger;

	if (n <= link->in_size)
		return true;
	bigger = realloc(link->in, n);
	if (!bigger)
		return false;
	link->in = bigger;
	link->in_size = n;
	return true;
}

/*
 * Reads and takes messages up to ReadyForQuery, and nothing beyond: what
 * follows it is the event of a loss. So the kernel shows first what there is.
 */
LinkStep
link_receive(CmLink *link)
{
	for (;;)
	{
		LinkStep	step = take_messages(link);
		char	   *end;
		ssize_t		n;

		if (step != LINK_READ)
			return step;
		if (!make_room(link) || link->received > MAX_ANSWER)
			return LINK_STRANGER;
		end = link->in + link->in_len;
		n = recv(link->fd, end, link->in_size - link->in_len, MSG_PEEK);
		if (n > 0)
			n = recv(link->fd, end, of_answer(link->in, link->in_len +
											  (size_t) n) - link->in_len, 0);
		if (n > 0)
		{
			link->in_len += (size_t) n;
			link->received += (size_t) n;
		}
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return LINK_READ;
		else
		{
			if (!link->got_error)
				text_addf(&link->error, "%s\n", n == 0 ?
						  "the Connection Manager closed the connection" :
						  strerror(errno));
			return LINK_FAILED;
		}
	}
}
