/*
 * real.c: finds the real libpq. Runs once, in the thread that loads the
 * front, before the program can call it; blocks on the dynamic loader's file
 * access alone.
 *
 * The path is absolute and fixed at build (REAL_LIBPQ); the environment
 * variable WATCHDOG_LIBPQ overrides it, except in a set-user-ID program.
 * Where the real library calls its own exported functions, those calls may
 * come back here (it is not linked -Bsymbolic), with real PGconns: that is
 * why every entry looks at the handle first.
 */
#include "real.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

const char *real_problem;
static char problem[512];

static void real_load(void) __attribute__((constructor));

static void
real_load(void)
{
	const char *path = secure_getenv("WATCHDOG_LIBPQ");
	void	   *library;

	if (!path || !*path)
		path = REAL_LIBPQ;
	if (path[0] != '/')
	{
		snprintf(problem, sizeof problem,
				 "WATCHDOG_LIBPQ is \"%s\": it must be an absolute path",
				 path);
		real_problem = problem;
		return;
	}
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
	{
		snprintf(problem, sizeof problem,
				 "could not load the real libpq: %s", dlerror());
		real_problem = problem;
		return;
	}
	if (dlsym(library, "PQcmSocket") || !dlsym(library, "PQconnectStart"))
	{
		snprintf(problem, sizeof problem, "\"%s\" is not a libpq that the "
				 "Connection Manager's libpq can stand before", path);
		real_problem = problem;
		dlclose(library);
		return;
	}
	for (const RealName *n = real_names; n->name; n++)
	{
		void	   *function = dlsym(library, n->name);

		if (function)
			memcpy((char *) &real + n->offset, &function, sizeof function);
	}
}
