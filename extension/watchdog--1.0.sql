/* watchdog--1.0.sql: the view of the guide's appendix A, and columns of our own after its four */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION watchdog" to load this file. \quit

CREATE FUNCTION pgx_stat_get_watchdog(
    OUT conmgr_addr inet,
    OUT conmgr_port integer,
    OUT heartbeat_interval integer,
    OUT heartbeat_timeout integer,
    OUT heartbeat_interval_ms bigint,
    OUT heartbeat_timeout_ms bigint,
    OUT connected_since timestamp with time zone,
    OUT last_received timestamp with time zone,
    OUT received_count bigint,
    OUT sent_count bigint,
    OUT resumed_count bigint,
    OUT generation bigint,
    OUT conmgr_id uuid
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgx_stat_get_watchdog'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pgx_stat_get_watchdog() IS 'conmgr processes that are connected to the watchdog worker';

CREATE VIEW pgx_stat_watchdog AS
    SELECT * FROM pgx_stat_get_watchdog();

COMMENT ON VIEW pgx_stat_watchdog IS 'conmgr processes that are connected to the watchdog worker';
COMMENT ON COLUMN pgx_stat_watchdog.conmgr_addr IS 'IP address of the conmgr process';
COMMENT ON COLUMN pgx_stat_watchdog.conmgr_port IS 'ephemeral port of the conmgr process';
COMMENT ON COLUMN pgx_stat_watchdog.heartbeat_interval IS 'interval between heartbeats, in seconds, rounded up';
COMMENT ON COLUMN pgx_stat_watchdog.heartbeat_timeout IS 'silence after which the other side is declared dead, in seconds, rounded up';
COMMENT ON COLUMN pgx_stat_watchdog.heartbeat_interval_ms IS 'interval between heartbeats, in milliseconds';
COMMENT ON COLUMN pgx_stat_watchdog.heartbeat_timeout_ms IS 'silence after which the other side is declared dead, in milliseconds';
COMMENT ON COLUMN pgx_stat_watchdog.connected_since IS 'when the conmgr process first connected';
COMMENT ON COLUMN pgx_stat_watchdog.last_received IS 'when something was last received from it';
COMMENT ON COLUMN pgx_stat_watchdog.received_count IS 'frames received from it';
COMMENT ON COLUMN pgx_stat_watchdog.sent_count IS 'frames sent to it';
COMMENT ON COLUMN pgx_stat_watchdog.resumed_count IS 'times that it connected again within heartbeat_timeout';
COMMENT ON COLUMN pgx_stat_watchdog.generation IS 'times that it has declared this instance lost';
COMMENT ON COLUMN pgx_stat_watchdog.conmgr_id IS 'identifies one run of the conmgr process';

REVOKE ALL ON FUNCTION pgx_stat_get_watchdog() FROM PUBLIC;
REVOKE ALL ON pgx_stat_watchdog FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgx_stat_get_watchdog() TO pg_monitor;
GRANT SELECT ON pgx_stat_watchdog TO pg_monitor;
