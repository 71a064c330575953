/* watchdog--1.0--1.1.sql: the succession of another cluster */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION watchdog UPDATE TO '1.1'" to load this file. \quit

CREATE FUNCTION watchdog_succeeds(system_identifier bigint, timeline integer)
RETURNS void
AS 'MODULE_PATHNAME', 'watchdog_succeeds'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION watchdog_succeeds(bigint, integer) IS
    'declare that this cluster takes the place of another one, up to a timeline';

CREATE FUNCTION watchdog_succession(OUT system_identifier bigint, OUT timeline integer)
RETURNS record
AS 'MODULE_PATHNAME', 'watchdog_succession'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION watchdog_succession() IS 'which cluster this one succeeds, as declared';

COMMENT ON COLUMN pgx_stat_watchdog.conmgr_id IS
    'hash that identifies one connection of one run of the conmgr process';

REVOKE ALL ON FUNCTION watchdog_succeeds(bigint, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION watchdog_succession() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION watchdog_succession() TO pg_monitor;
