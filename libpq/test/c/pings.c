/* pings.c: what PQping and PQpingParams say, once by a string, once by keywords. Usage: pings conninfo host port */
#include "check.h"

int
main(int argc, char **argv)
{
	static const char *const names[] = {"ok", "reject", "no response", "no attempt"};
	const char *const keywords[] = {"host", "port", "user", "dbname", "connect_timeout", NULL};
	const char *const values[] = {argv[2], argv[3], "postgres", "postgres", "10", NULL};

	CHECK(argc == 4);
	printf("PQping %s\n", names[PQping(argv[1])]);
	printf("PQpingParams %s\n", names[PQpingParams(keywords, values, 0)]);
	return 0;
}
