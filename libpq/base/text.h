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

void		text_add(Text *t, const char *string);
void		text_addn(Text *t, const char *bytes, size_t n);
void		text_addf(Text *t, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));
void		text_add_literal(Text *t, const char *value);
void		text_add_conninfo(Text *t, const char *keyword,
							  const char *value);
void		text_cut(Text *t, size_t len);
void		text_free(Text *t);
const char *text_of(const Text *t);

#endif							/* TEXT_H */
