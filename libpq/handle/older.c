/*
 * older.c: programs that are newer than the libpq of run time. Every function
 * that any libpq has is there, so that they start; one that the real libpq
 * does not have fails, and says so, or is made of what is there. Run by the
 * application's threads; blocks on nothing.
 */
#include "handle.h"

#include <time.h>

/*
 * The application called a function that there is not. PQerrorMessage() tells,
 * until the next call that uses the connection.
 */
void
front_lacks(const PGconn *conn, const char *function)
{
	Front	   *f = front_of(conn);

	errno = ENOSYS;
	if (f)
		f->lacks = function;
}

const char *
lacks_message(const char *function)
{
	static __thread char message[160];
	int			version = real.PQlibVersion();

	snprintf(message, sizeof message,
			 "the installed libpq (version %d.%d) does not have %s()\n",
			 version / 10000, version % 10000, function);
	return message;
}

EXPORT char *
PQcancelErrorMessage(const PGcancelConn *cancelConn)
{
	char	   *message = real.PQcancelErrorMessage(cancelConn);

	/* a libpq that has the function gives a text, whatever it is given */
	return message ? message : (char *) lacks_message("PQcancelCreate");
}

EXPORT int
PQfullProtocolVersion(const PGconn *conn)
{
	const PGconn *sql = sql_of(conn);
	int			version = real.PQfullProtocolVersion(sql);

	return version ? version : real.PQprotocolVersion(sql) * 10000;
}

EXPORT int
PQmblenBounded(const char *s, int encoding)
{
	int			n = real.PQmblenBounded(s, encoding);

	return n || !*s ? n : (int) strnlen(s, (size_t) real.PQmblen(s, encoding));
}

EXPORT pg_usec_time_t
PQgetCurrentTimeUSec(void)
{
	pg_usec_time_t now = real.PQgetCurrentTimeUSec();
	struct timespec t;

	if (now)
		return now;
	clock_gettime(CLOCK_REALTIME, &t);
	return (pg_usec_time_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
