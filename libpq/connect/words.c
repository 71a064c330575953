/*
 * words.c: the options of a session, taken apart as a server does: what is
 * meant for conmgr among them is not for the server. Run by the application's
 * threads; blocks on nothing.
 */
#include "steps.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/*
 * The next word of options, as a server takes them apart: its raw text from
 * *from to *end, and without its backslashes. False: there is none.
 */
static bool
next_word(const char **from, const char **end, Text *plain)
{
	const char *p = *end;
	bool		escaped = false;

	while (isspace((unsigned char) *p))
		p++;
	*from = p;
	text_cut(plain, 0);
	for (; *p && (escaped || !isspace((unsigned char) *p)); p++)
	{
		escaped = !escaped && *p == '\\';
		if (!escaped)
			text_addn(plain, p, 1);
	}
	*end = p;
	return p > *from;
}

/*
 * The value, if the setting is that of waiting. To a server a name is the same
 * with - for _, and in any case.
 */
static const char *
wait_value(const char *setting)
{
	const char *name = CM_WAIT_SETTING;

	for (; *name; name++, setting++)
		if (tolower((unsigned char) *setting) != *name &&
			!(*setting == '-' && *name == '_'))
			return NULL;
	return *setting == '=' ? setting + 1 : NULL;
}

static void
add_word(Text *out, const char *from, const char *end)
{
	if (out->len)
		text_add(out, " ");
	text_addn(out, from, (size_t) (end - from));
}

/*
 * *wait: the last value given, NULL for none; *rest: the options without them,
 * NULL if there is none. False: out of memory.
 */
bool
split_wait(const char *options, char **wait, char **rest)
{
	const char *end = options;
	const char *from;
	const char *flag = NULL;	/* a -c that is a word of its own */
	Text		word = {0};
	Text		kept = {0};
	bool		ok = true;

	while (next_word(&from, &end, &word))
	{
		const char *text = text_of(&word);
		const char *value = NULL;

		if (!flag && !strcmp(text, "-c"))
		{
			flag = from;
			continue;
		}
		if (flag)
			value = wait_value(text);
		else if (!strncmp(text, "-c", 2) || !strncmp(text, "--", 2))
			value = wait_value(text + 2);
		if (value)
		{
			free(*wait);
			*wait = strdup(value);
			ok &= *wait != NULL;
		}
		else
			add_word(&kept, flag ? flag : from, end);
		flag = NULL;
	}
	if (flag)
		add_word(&kept, flag, end);
	if (*wait)
		*rest = strdup(text_of(&kept));
	ok &= !word.broken && !kept.broken && (!*wait || *rest);
	text_free(&word);
	text_free(&kept);
	return ok;
}
