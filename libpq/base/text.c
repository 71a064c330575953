/*
 * text.c: a growing string. Run by the application's threads; blocks on
 * nothing.
 */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Passwords pass through here: nothing is left in freed memory. */
static void
text_wipe(Text *t)
{
	if (t->data)
		explicit_bzero(t->data, t->size);
	free(t->data);
}

static bool
text_room(Text *t, size_t more)
{
	size_t		need = t->len + more + 1;

	if (t->broken)
		return false;
	if (need > t->size)
	{
		size_t		size = t->size ? t->size : 128;
		char	   *data;

		while (size < need)
			size *= 2;
		data = malloc(size);
		if (!data)
		{
			t->broken = true;
			return false;
		}
		if (t->data)
			memcpy(data, t->data, t->len + 1);
		text_wipe(t);
		t->data = data;
		t->size = size;
	}
	return true;
}

void
text_addn(Text *t, const char *bytes, size_t n)
{
	if (!text_room(t, n))
		return;
	memcpy(t->data + t->len, bytes, n);
	t->len += n;
	t->data[t->len] = '\0';
}

void
text_add(Text *t, const char *string)
{
	text_addn(t, string, strlen(string));
}

void
text_addf(Text *t, const char *fmt,...)
{
	va_list		args;
	int			n;

	va_start(args, fmt);
	n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (n < 0 || !text_room(t, (size_t) n))
		return;
	va_start(args, fmt);
	vsnprintf(t->data + t->len, (size_t) n + 1, fmt, args);
	va_end(args);
	t->len += (size_t) n;
}

/* Appends 'value', quoted as a statement wants it. */
void
text_add_literal(Text *t, const char *value)
{
	text_addn(t, "'", 1);
	for (const char *p = value; *p; p++)
		text_addn(t, *p == '\'' ? "''" : p, *p == '\'' ? 2 : 1);
	text_addn(t, "'", 1);
}

/* Appends keyword='value', quoted as a connection string wants it. */
void
text_add_conninfo(Text *t, const char *keyword, const char *value)
{
	if (t->len)
		text_addn(t, " ", 1);
	text_add(t, keyword);
	text_addn(t, "='", 2);
	for (;;)
	{
		size_t		plain = strcspn(value, "'\\");

		text_addn(t, value, plain);
		value += plain;
		if (!*value)
			break;
		text_addn(t, "\\", 1);
		text_addn(t, value++, 1);
	}
	text_addn(t, "'", 1);
}

void
text_cut(Text *t, size_t len)
{
	if (len < t->len)
	{
		t->len = len;
		t->data[len] = '\0';
	}
}

void
text_free(Text *t)
{
	text_wipe(t);
	memset(t, 0, sizeof *t);
}

const char *
text_of(const Text *t)
{
	return t->broken ? "out of memory\n" : t->data ? t->data : "";
}
