/*
 * succession.c
 *	  watchdog_succeeds(): this cluster takes the place of another one, whose
 *	  system identifier was another, as after pg_upgrade.
 *
 * Declared in ordinary backends, kept in a file of the data directory, which
 * base backups and pg_rewind copy, and read by the watchdog worker when it
 * starts. Blocks on the file's fsync and on an own lock.
 *
 * The file names the cluster that it was written for: a data directory that
 * gets another system identifier (pg_resetwal, pg_createsubscriber) is another
 * cluster, and succeeds nobody until that is declared.
 */
#include "watchdog.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "storage/lwlock.h"

PG_FUNCTION_INFO_V1(watchdog_succeeds);
PG_FUNCTION_INFO_V1(watchdog_succession);

/*
 * Relative to the data directory. Base backups leave files with that prefix
 * out.
 */
#define SUCCESSION_FILE		"watchdog.succession"
#define SUCCESSION_TEMP		"pgsql_tmp_" SUCCESSION_FILE
#define MAX_TEXT			256

static LWLock *
succession_lock(void)
{
	return &GetNamedLWLockTranche(WATCHDOG_TRANCHE)->lock;
}

/* What is in force. 0, 0: nothing was declared. */
WatchdogSuccession
watchdog_get_succession(void)
{
	WatchdogSuccession s;

	SpinLockAcquire(&watchdog_shared->mutex);
	s = watchdog_shared->succession;
	SpinLockRelease(&watchdog_shared->mutex);
	return s;
}

static void
set_succession(WatchdogSuccession s)
{
	SpinLockAcquire(&watchdog_shared->mutex);
	watchdog_shared->succession = s;
	SpinLockRelease(&watchdog_shared->mutex);
}

/* The file's text, without its checksum. */
static int
format_succession(char *content, uint64 cluster, WatchdogSuccession s)
{
	return snprintf(content, MAX_TEXT,
					"watchdog 1\ncluster " UINT64_FORMAT "\nsucceeds " UINT64_FORMAT
					"\ntimeline %u\n", cluster, s.system_identifier, s.timeline);
}

static pg_crc32c
checksum(const char *content, size_t len)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, content, len);
	FIN_CRC32C(crc);
	return crc;
}

/* NULL, and the succession; or what is wrong with the text. */
static const char *
parse_succession(const char *content, WatchdogSuccession *s)
{
	const char *sum = strstr(content, "checksum ");
	unsigned long long cluster;
	unsigned long long succeeds;
	unsigned int timeline;
	unsigned int crc;
	char		end;

	if (sum == NULL || sscanf(sum, "checksum %8x%c", &crc, &end) != 2 || end != '\n' ||
		crc != checksum(content, sum - content))
		return "Its checksum is wrong.";
	if (sscanf(content, "watchdog 1\ncluster %llu\nsucceeds %llu\ntimeline %u\n",
			   &cluster, &succeeds, &timeline) != 3)
		return "It is of another version.";
	if (cluster != GetSystemIdentifier())
		return "It was written for another cluster.";
	s->system_identifier = succeeds;
	s->timeline = timeline;
	return NULL;
}

static void
write_file(WatchdogSuccession s)
{
	char		content[MAX_TEXT];
	int			len = format_succession(content, GetSystemIdentifier(), s);
	int			fd;

	len += snprintf(content + len, sizeof(content) - len, "checksum %08x\n",
					checksum(content, len));
	fd = OpenTransientFile(SUCCESSION_TEMP,
						   O_WRONLY | O_CREAT | O_TRUNC | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", SUCCESSION_TEMP)));
	errno = 0;
	if (write(fd, content, len) != len)
	{
		if (errno == 0)
			errno = ENOSPC;		/* write() does not say so */
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", SUCCESSION_TEMP)));
	}
	if (pg_fsync(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync file \"%s\": %m", SUCCESSION_TEMP)));
	if (CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not close file \"%s\": %m", SUCCESSION_TEMP)));
	(void) durable_rename(SUCCESSION_TEMP, SUCCESSION_FILE, ERROR);
}

/* Read the file into text. false: there is none, or it was said why not. */
static bool
read_file(char *content)
{
	int			fd = OpenTransientFile(SUCCESSION_FILE,
									   O_RDONLY | O_NONBLOCK | PG_BINARY);
	int			len = -1;

	if (fd >= 0)
	{
		len = read(fd, content, MAX_TEXT - 1);
		if (len >= 0)
			content[len] = '\0';
		else
			ereport(WARNING,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", SUCCESSION_FILE)));
		CloseTransientFile(fd);
	}
	else if (errno != ENOENT)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", SUCCESSION_FILE)));
	return len >= 0;
}

/* The worker begins: what was declared earlier holds. */
void
watchdog_load_succession(void)
{
	WatchdogSuccession s = {0};
	char		content[MAX_TEXT];
	const char *wrong;

	LWLockAcquire(succession_lock(), LW_EXCLUSIVE);
	if (read_file(content))
	{
		wrong = parse_succession(content, &s);
		if (wrong != NULL)
			ereport(WARNING,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("file \"%s\" is ignored: this cluster succeeds no other one", SUCCESSION_FILE),
					 errdetail("%s", wrong),
					 errhint("Call watchdog_succeeds() again, or remove the file.")));
	}
	set_succession(s);
	LWLockRelease(succession_lock());
}

Datum
watchdog_succeeds(PG_FUNCTION_ARGS)
{
	WatchdogSuccession s = {.system_identifier = (uint64) PG_GETARG_INT64(0)};
	int32		timeline = PG_GETARG_INT32(1);

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("recovery is in progress"),
				 errhint("A succession is declared on the primary.")));
	if (s.system_identifier == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("system identifier must not be 0")));
	if (s.system_identifier == GetSystemIdentifier())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a cluster cannot succeed itself"),
				 errhint("Give the system identifier of the former cluster, as its "
						 "pg_controldata or pg_control_system() shows it.")));
	if (timeline <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeline must be greater than 0")));
	s.timeline = timeline;

	LWLockAcquire(succession_lock(), LW_EXCLUSIVE);
	write_file(s);
	set_succession(s);
	LWLockRelease(succession_lock());
	watchdog_set_latch(&watchdog_shared->worker_latch);
	ereport(LOG,
			(errmsg("this cluster succeeds system " UINT64_FORMAT " up to timeline %u",
					s.system_identifier, s.timeline)));
	PG_RETURN_VOID();
}

/* One row: what is in force, or NULLs. */
Datum
watchdog_succession(PG_FUNCTION_ARGS)
{
	WatchdogSuccession s = watchdog_get_succession();
	bool		none = s.system_identifier == 0;
	bool		nulls[2] = {none, none};
	Datum		values[2];
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts != 2)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("return type must be a row of two columns")));
	values[0] = Int64GetDatum((int64) s.system_identifier);
	values[1] = Int32GetDatum((int32) s.timeline);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
