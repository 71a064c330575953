/*
 * text.h: a growing string that remembers when memory ran out. A leaf: all
 * layers of the front use it.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Text
{
	char	   *data;
	size_t		len;
	size_t		size;
	bool		broken;
} Text;

void		text_add(Text *text, const char *string);
void		text_addn(Text *text, const char *bytes, size_t n);
void		text_addf(Text *text, const char *fmt, ...)
			__attribute__((format(printf, 2, 3)));
void		text_add_conninfo(Text *text, const char *keyword,
							  const char *value);
void		text_cut(Text *text, size_t len);
void		text_free(Text *text);
const char *text_of(const Text *text);

#endif							/* TEXT_H */
