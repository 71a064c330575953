/*
 * text.c: a growing string. Run by the application's threads; blocks on
 * nothing.
 */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
text_room(Text *text, size_t more)
{
	size_t		need = text->len + more + 1;

	if (text->broken)
		return false;
	if (need > text->size)
	{
		size_t		size = text->size ? text->size : 128;
		char	   *data;

		while (size < need)
			size *= 2;
		data = realloc(text->data, size);
		if (!data)
		{
			text->broken = true;
			return false;
		}
		text->data = data;
		text->size = size;
	}
	return true;
}

void
text_addn(Text *text, const char *bytes, size_t n)
{
	if (!text_room(text, n))
		return;
	memcpy(text->data + text->len, bytes, n);
	text->len += n;
	text->data[text->len] = '\0';
}

void
text_add(Text *text, const char *string)
{
	text_addn(text, string, strlen(string));
}

void
text_addf(Text *text, const char *fmt, ...)
{
	va_list		args;
	int			n;

	va_start(args, fmt);
	n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (n < 0 || !text_room(text, (size_t) n))
		return;
	va_start(args, fmt);
	vsnprintf(text->data + text->len, (size_t) n + 1, fmt, args);
	va_end(args);
	text->len += (size_t) n;
}

/* Appends keyword='value', quoted as a connection string wants it. */
void
text_add_conninfo(Text *text, const char *keyword, const char *value)
{
	if (text->len)
		text_addn(text, " ", 1);
	text_add(text, keyword);
	text_addn(text, "='", 2);
	for (;;)
	{
		size_t		plain = strcspn(value, "'\\");

		text_addn(text, value, plain);
		value += plain;
		if (!*value)
			break;
		text_addn(text, "\\", 1);
		text_addn(text, value++, 1);
	}
	text_addn(text, "'", 1);
}

void
text_cut(Text *text, size_t len)
{
	if (len < text->len)
	{
		text->len = len;
		text->data[len] = '\0';
	}
}

/* Passwords pass through here: nothing is left in freed memory. */
void
text_free(Text *text)
{
	if (text->data)
		explicit_bzero(text->data, text->len);
	free(text->data);
	memset(text, 0, sizeof *text);
}

const char *
text_of(const Text *text)
{
	return text->broken ? "out of memory\n" : text->data ? text->data : "";
}
