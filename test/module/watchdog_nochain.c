/*
 * watchdog_nochain.c
 *	  A module for tests that does what no module should: it sets
 *	  ClientAuthentication_hook without calling the one that it has found, and
 *	  takes its time in it for who calls himself slow.
 *
 * Runs in the postmaster, and in each session; blocks there for a minute.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

/* Port is laid out the same without them, and their headers need not be there. */
#undef ENABLE_GSS
#undef USE_OPENSSL
#undef USE_SSL
#include "libpq/auth.h"
#include "libpq/libpq-be.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

static void
slow(Port *port, int status)
{
	if (port->application_name == NULL ||
		strcmp(port->application_name, "slow") != 0)
		return;
	for (int i = 0; i < 6000; i++)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(10000);
	}
}

void
_PG_init(void)
{
	ClientAuthentication_hook = slow;
}
