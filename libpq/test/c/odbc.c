/*
 * odbc.c: an ODBC application. Usage: odbc how connection-string
 *   wait     waits in a statement until the instance is lost, and connects again
 *   idle     the same while nothing is under way; the first statement afterwards tells
 *   pool     gives the connection back to unixODBC's pool before the loss, and takes connections from there afterwards
 *   async    asks for asynchronous execution
 *   once     connects, and says where to
 * It says "ready" before the loss, and then what each call gave.
 */
#include "check.h"

#include <sql.h>
#include <sqlext.h>

static SQLHENV env;

/* The SQLSTATE and text of what went wrong. */
static void
tell(const char *call, SQLRETURN r, SQLSMALLINT type, SQLHANDLE handle)
{
	SQLCHAR		state[6] = "none";
	SQLCHAR		text[1000] = "";
	SQLINTEGER	code;
	SQLSMALLINT len;

	if (r != SQL_SUCCESS)
		SQLGetDiagRec(type, handle, 1, state, &code, text, sizeof text, &len);
	for (char *p = (char *) text; *p; p++)
		if (*p == '\n')
			*p = ' ';
	printf("%s: %d %s %s\n", call, (int) r, state, text);
	fflush(stdout);
}

static SQLHDBC
connect_to(char *string)
{
	SQLHDBC		dbc;
	SQLRETURN	r;

	CHECK(SQLAllocHandle(SQL_HANDLE_DBC, env, &dbc) == SQL_SUCCESS);
	r = SQLDriverConnect(dbc, NULL, (SQLCHAR *) string, SQL_NTS, NULL, 0, NULL, SQL_DRIVER_NOPROMPT);
	if (!SQL_SUCCEEDED(r))
	{
		tell("connect", r, SQL_HANDLE_DBC, dbc);
		exit(1);
	}
	return dbc;
}

static void
leave(SQLHDBC dbc)
{
	SQLDisconnect(dbc);
	SQLFreeHandle(SQL_HANDLE_DBC, dbc);
}

static void
query(SQLHDBC dbc, const char *call, const char *sql)
{
	SQLHSTMT	s;
	SQLCHAR		value[100] = "";
	SQLLEN		len;
	SQLRETURN	r;

	CHECK(SQLAllocHandle(SQL_HANDLE_STMT, dbc, &s) == SQL_SUCCESS);
	r = SQLExecDirect(s, (SQLCHAR *) sql, SQL_NTS);
	if (SQL_SUCCEEDED(r) && SQL_SUCCEEDED(SQLFetch(s)) && SQL_SUCCEEDED(SQLGetData(s, 1, SQL_C_CHAR, value, sizeof value, &len)))
		printf("%s: port %s\n", call, value);
	else
		tell(call, r, SQL_HANDLE_STMT, s);
	SQLFreeHandle(SQL_HANDLE_STMT, s);
}

static void
dead(SQLHDBC dbc)
{
	SQLUINTEGER is_dead = 99;

	SQLGetConnectAttr(dbc, SQL_ATTR_CONNECTION_DEAD, &is_dead, 0, NULL);
	printf("dead %d\n", (int) is_dead);
}

#define PORT "select inet_server_port()"

int
main(int argc, char **argv)
{
	SQLHDBC		dbc;

	CHECK(argc == 3);
	if (!strcmp(argv[1], "pool"))
		CHECK(SQLSetEnvAttr(NULL, SQL_ATTR_CONNECTION_POOLING, (SQLPOINTER) SQL_CP_ONE_PER_HENV, 0) == SQL_SUCCESS);
	CHECK(SQLAllocHandle(SQL_HANDLE_ENV, NULL, &env) == SQL_SUCCESS);
	CHECK(SQLSetEnvAttr(env, SQL_ATTR_ODBC_VERSION, (SQLPOINTER) SQL_OV_ODBC3, 0) == SQL_SUCCESS);
	dbc = connect_to(argv[2]);
	query(dbc, "first", PORT);
	if (!strcmp(argv[1], "async"))
	{
		SQLUINTEGER mode = 99;
		SQLHSTMT	s;

		SQLGetInfo(dbc, SQL_ASYNC_MODE, &mode, sizeof mode, NULL);
		printf("async mode %d\n", (int) mode);
		SQLAllocHandle(SQL_HANDLE_STMT, dbc, &s);
		tell("async", SQLSetStmtAttr(s, SQL_ATTR_ASYNC_ENABLE, (SQLPOINTER) SQL_ASYNC_ENABLE_ON, 0), SQL_HANDLE_STMT, s);
		tell("executes", SQLExecDirect(s, (SQLCHAR *) "select pg_sleep(0.2)", SQL_NTS), SQL_HANDLE_STMT, s);
		return 0;
	}
	if (!strcmp(argv[1], "once"))
		return 0;
	if (!strcmp(argv[1], "pool"))
		leave(dbc);
	say("ready");
	if (!strcmp(argv[1], "wait"))
		query(dbc, "lost", "select pg_sleep(60)");
	hear();
	if (!strcmp(argv[1], "pool"))
	{
		for (int i = 0; i < 3; i++)
		{
			dbc = connect_to(argv[2]);
			query(dbc, "pooled", PORT);
			leave(dbc);
		}
		return 0;
	}
	if (!strcmp(argv[1], "idle"))
		query(dbc, "lost", PORT);
	dead(dbc);
	query(dbc, "later", PORT);
	leave(dbc);
	dbc = connect_to(argv[2]);
	query(dbc, "again", PORT);
	dead(dbc);
	leave(dbc);
	return 0;
}
