/*
 * known.c: where this process has found a conmgr before, and what that one
 * offers. Such a place is not asked what it is any more: the startup and the
 * question go there at once (link_knock), without the real libpq. Whatever
 * answers otherwise is forgotten, and connected to in full.
 *
 * Run by any thread of the application that connects; blocks on nothing, nor
 * in a child whose parent was here at its fork: who finds the list taken
 * knows nothing.
 */
#include "steps.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* An application has one, or a few by several names. */
#define PLACES 8

typedef struct Known
{
	char		name[300];		/* "": none */
	Offers		offers;
} Known;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Known places[PLACES];
static unsigned next_place;		/* that is given up for a new one */

/* False: it is too long to be kept. */
static bool
name_of(const Connection *c, char *name, size_t size)
{
	const Host *h = current_host(c);
	const char *host = h->host ? h->host : "";
	const char *hostaddr = h->hostaddr ? h->hostaddr : "";
	int			n = snprintf(name, size, "%s,%s,%s", host, hostaddr,
							 host_port(h));

	return n > 0 && (size_t) n < size;
}

static Known *
find(const char *name)
{
	for (int i = 0; i < PLACES; i++)
		if (!strcmp(places[i].name, name))
			return &places[i];
	return NULL;
}

/*
 * Only this host itself: a name's other addresses are libpq's to try. And
 * requirepeer is looked at before anything is said.
 */
static bool
may_be_known(const Connection *c)
{
	const Host *h = current_host(c);
	const char *required = options_get(&c->options, "requirepeer");

	if (host_is_tcp(h))
		return host_is_loopback(h);
	return h->host && !(required && *required);
}

bool
is_known(const Connection *c, Offers *offers)
{
	char		name[sizeof places[0].name];
	const Known *k;

	if (!may_be_known(c) || !name_of(c, name, sizeof name) ||
		pthread_mutex_trylock(&lock) != 0)
		return false;
	k = find(name);
	if (k)
		*offers = k->offers;
	pthread_mutex_unlock(&lock);
	return k != NULL;
}

void
make_known(const Connection *c, const Offers *offers)
{
	char		name[sizeof places[0].name];
	Known	   *k;

	if (!may_be_known(c) || !name_of(c, name, sizeof name) ||
		pthread_mutex_trylock(&lock) != 0)
		return;
	k = find(name);
	if (!k)
		k = &places[next_place++ % PLACES];
	strcpy(k->name, name);
	k->offers = *offers;
	pthread_mutex_unlock(&lock);
}

void
forget_known(const Connection *c)
{
	char		name[sizeof places[0].name];
	Known	   *k;

	if (!name_of(c, name, sizeof name) || pthread_mutex_trylock(&lock) != 0)
		return;
	k = find(name);
	if (k)
		k->name[0] = '\0';
	pthread_mutex_unlock(&lock);
}
