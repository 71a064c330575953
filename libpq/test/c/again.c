/*
 * again.c: connects again and again in one process, as \c of psql does; that of 17 knows no connect_timeout.
 * Usage: again, and lines "word conninfo". It says the word when it is connected, and has left the connection before, or why it is not.
 */
#include "check.h"

int
main(void)
{
	PGconn	   *before = NULL;
	char		line[4096];

	while (fgets(line, sizeof line, stdin))
	{
		char	   *conninfo = strchr(line, ' ');
		PGconn	   *c;

		CHECK(conninfo);
		*conninfo++ = '\0';
		c = PQconnectdb(conninfo);
		if (PQstatus(c) == CONNECTION_OK)
		{
			printf("%s\n", line);
			PQfinish(before);
			before = c;
		}
		else
		{
			printf("%s", PQerrorMessage(c));
			PQfinish(c);
		}
		fflush(stdout);
	}
	PQfinish(before);
	return 0;
}
