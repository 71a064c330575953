/* events.c: event procedures see the handle that the program has, and each event once. Usage: events conninfo */
#include "check.h"

#include <libpq-events.h>

static PGconn *handle;
static int	counts[6];

static int
proc(PGEventId id, void *info, void *pass)
{
	CHECK(pass == counts);
	counts[id]++;
	if (id <= PGEVT_CONNDESTROY)
	{
		CHECK(((PGEventRegister *) info)->conn == handle);
		if (id == PGEVT_REGISTER)
			CHECK(PQsetInstanceData(handle, proc, &handle));
		CHECK(PQinstanceData(handle, proc) == &handle);
	}
	else if (id == PGEVT_RESULTCREATE)
	{
		PGEventResultCreate *e = info;

		CHECK(e->conn == handle);
		CHECK(PQresultSetInstanceData(e->result, proc, "data"));
	}
	return 1;
}

static int
other(PGEventId id, void *info, void *pass)
{
	(void) id;
	(void) info;
	(void) pass;
	return 1;
}

int
main(int argc, char **argv)
{
	PGresult   *r;
	PGresult   *copy;

	CHECK(argc == 2);
	handle = PQconnectStart(argv[1]);
	/* while it connects: the connection that will be used does not exist yet */
	CHECK(PQregisterEventProc(handle, proc, "proc", counts) == 1);
	CHECK(PQregisterEventProc(handle, proc, "proc", counts) == 0);
	CHECK(PQregisterEventProc(handle, other, "other", NULL) == 1);
	while (PQconnectPoll(handle) != PGRES_POLLING_OK)
		CHECK(PQstatus(handle) != CONNECTION_BAD);
	CHECK(PQinstanceData(handle, proc) == &handle && PQinstanceData(handle, other) == NULL);
	r = PQexec(handle, "select 1");
	CHECK_OK(handle, r, PGRES_TUPLES_OK);
	CHECK(!strcmp(PQresultInstanceData(r, proc), "data"));
	copy = PQcopyResult(r, PG_COPYRES_TUPLES | PG_COPYRES_EVENTS);
	CHECK(copy);
	PQclear(copy);
	PQclear(r);
	PQreset(handle);
	CHECK(PQstatus(handle) == CONNECTION_OK);
	CHECK(PQresetStart(handle) == 1);
	while (PQresetPoll(handle) != PGRES_POLLING_OK)
		CHECK(PQstatus(handle) != CONNECTION_BAD);
	CHECK(PQinstanceData(handle, proc) == &handle);
	PQfinish(handle);
	printf("register %d reset %d destroy %d create %d copy %d result-destroy %d\n", counts[0], counts[1], counts[2], counts[3],
		   counts[4], counts[5]);
	return 0;
}
