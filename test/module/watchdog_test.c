/*
 * watchdog_test.c
 *	  A module for tests: sets the latch of another process and counts the
 *	  wake-ups that got lost.
 *
 * Runs in a test's backend; blocks until the other process has reset its
 * latch, or patience is over.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "storage/proc.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(set_latch);

static PGPROC *
find_process(int pid)
{
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		if (ProcGlobal->allProcs[i].pid == pid)
			return &ProcGlobal->allProcs[i];
	}
	ereport(ERROR, (errmsg("no process %d", pid)));
}

/* Set the latch of a process n times, and return how often it took longer than patience_ms to be noticed. */
Datum
set_latch(PG_FUNCTION_ARGS)
{
	volatile PGPROC *proc = find_process(PG_GETARG_INT32(0));
	int			n = PG_GETARG_INT32(1);
	int			patience_ms = PG_GETARG_INT32(2);
	int			lost = 0;

	for (int i = 0; i < n; i++)
	{
		instr_time	start;
		instr_time	now;

		/* only a process that sleeps has to be woken */
		pg_usleep(200);
		SetLatch(unvolatize(Latch *, &proc->procLatch));
		INSTR_TIME_SET_CURRENT(start);
		while (proc->procLatch.is_set)
		{
			CHECK_FOR_INTERRUPTS();
			INSTR_TIME_SET_CURRENT(now);
			INSTR_TIME_SUBTRACT(now, start);
			if (INSTR_TIME_GET_MILLISEC(now) > patience_ms)
			{
				lost++;
				while (proc->procLatch.is_set)
					pg_usleep(1000);
				break;
			}
		}
	}
	PG_RETURN_INT32(lost);
}
