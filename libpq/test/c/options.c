/*
 * options.c: what the handle says of the options, and what the session has made of them, when it is made and after a reset.
 * Usage: options conninfo query
 */
#include "check.h"

static const char *
conninfo_option(const PQconninfoOption *list)
{
	for (; list->keyword; list++)
		if (!strcmp(list->keyword, "options"))
			return list->val ? list->val : "(null)";
	return "(none)";
}

static void
show(PGconn *c, const char *query)
{
	PQconninfoOption *list = PQconninfo(c);
	PGresult   *r = PQexec(c, query);

	CHECK(list != NULL);
	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		fprintf(stderr, "%s", PQerrorMessage(c));
	CHECK(PQresultStatus(r) == PGRES_TUPLES_OK);
	printf("[%s] [%s] %s\n", PQoptions(c), conninfo_option(list), PQgetvalue(r, 0, 0));
	PQconninfoFree(list);
	PQclear(r);
}

int
main(int argc, char **argv)
{
	PGconn	   *c = argc == 3 ? PQconnectdb(argv[1]) : NULL;

	CHECK(c != NULL);
	show(c, argv[2]);
	PQreset(c);
	show(c, argv[2]);
	PQfinish(c);
	return 0;
}
