/* wiped.c: the front's growing string leaves nothing of a password in memory that it frees. Usage: wiped */
#define _GNU_SOURCE
#include "check.h"

#include <malloc.h>
#include <stdbool.h>

#define SECRET "s3cret"

static void
look(void *block)
{
	CHECK(!block || !memmem(block, malloc_usable_size(block), SECRET, strlen(SECRET)));
}

static void
looked_free(void *block)
{
	look(block);
	free(block);
}

/* realloc() may move the block, and leaves the old one as it was. */
__attribute__((unused)) static void *
looked_realloc(void *block, size_t n)
{
	look(block);
	return realloc(block, n);
}

#define free looked_free
#define realloc looked_realloc
#include "../../base/text.c"

int
main(void)
{
	Text		grows = {0};
	Text		is_cut = {0};

	for (int i = 0; i < 100; i++)
		text_add_conninfo(&grows, "password", SECRET);
	CHECK(!grows.broken && grows.len > 1000 && strlen(text_of(&grows)) == grows.len);
	text_free(&grows);
	text_add(&is_cut, SECRET);
	text_cut(&is_cut, 0);
	text_free(&is_cut);
	printf("ok\n");
	return 0;
}
