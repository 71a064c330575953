/* linked.c: built against the installed front: its header, its pkg-config file, and no environment when it runs. Usage: linked conninfo */
#include <stdio.h>
#include <libpq-cm.h>

int
main(int argc, char **argv)
{
	PGconn	   *c = PQconnectStart(argc > 1 ? argv[1] : "");
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;
	int			awaited = 0;

	while (s == PGRES_POLLING_READING || s == PGRES_POLLING_WRITING)
	{
		s = PQconnectPoll(c);
		awaited |= PQstatus(c) == CONNECTION_AWAITING_CMRESPONSE;
	}
	printf("%s port %s socket %s awaited %s draining %d\n", s == PGRES_POLLING_OK ? "connected" : PQerrorMessage(c), PQport(c),
		   PQcmSocket(c) >= 0 ? "yes" : "no", awaited ? "yes" : "no", PQcmDraining(c));
	PQfinish(c);
	return 0;
}
