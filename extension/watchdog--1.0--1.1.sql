/* watchdog--1.0--1.1.sql: the succession of another cluster, the sessions, and draining */

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

CREATE FUNCTION pgx_stat_get_watchdog_1_1(
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
    OUT conmgr_id uuid,
    OUT suspended_count bigint,
    OUT keyid text,
    OUT sessions_to_drain bigint
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgx_stat_get_watchdog'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pgx_stat_get_watchdog_1_1() IS 'conmgr processes that are connected to the watchdog worker';

CREATE OR REPLACE VIEW pgx_stat_watchdog AS
    SELECT * FROM pgx_stat_get_watchdog_1_1();

COMMENT ON COLUMN pgx_stat_watchdog.suspended_count IS
    'times that its silence was no verdict, as sessions of its host were heard of';

COMMENT ON COLUMN pgx_stat_watchdog.keyid IS 'the key by which it has proved who it is; null: it has none';
COMMENT ON COLUMN pgx_stat_watchdog.sessions_to_drain IS
    'sessions that began before the drain of this server, and end with this conmgr process; null: it is not drained';

REVOKE ALL ON FUNCTION pgx_stat_get_watchdog_1_1() FROM PUBLIC;

-- Who may read the view goes on to.
DO $$
DECLARE
    reader regrole;
BEGIN
    FOR reader IN
        SELECT grantee FROM pg_proc, aclexplode(proacl)
         WHERE oid = 'pgx_stat_get_watchdog()'::regprocedure AND privilege_type = 'EXECUTE' AND grantee <> proowner
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION pgx_stat_get_watchdog_1_1() TO %s',
                       CASE reader WHEN 0 THEN 'PUBLIC' ELSE reader::text END);
    END LOOP;
END
$$;

CREATE FUNCTION pgx_stat_get_watchdog_sessions(
    OUT pid integer,
    OUT client_addr inet,
    OUT client_port integer,
    OUT label uuid,
    OUT conmgr_alive boolean,
    OUT conmgr_id uuid,
    OUT address_conmgrs integer,
    OUT to_drain boolean
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgx_stat_get_watchdog_sessions'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pgx_stat_get_watchdog_sessions() IS 'sessions of client hosts, and by what they end';

CREATE VIEW pgx_stat_watchdog_sessions AS
    WITH s AS MATERIALIZED (SELECT * FROM pgx_stat_get_watchdog_sessions())
    SELECT s.pid, s.client_addr, s.client_port, s.label, s.conmgr_alive, s.conmgr_id, s.address_conmgrs,
           CASE WHEN s.conmgr_id IS NULL AND s.address_conmgrs = 0 THEN 'no conmgr process answers for it'
                WHEN NOT s.conmgr_alive THEN 'no conmgr process has its label'
           END AS warning,
           s.to_drain
      FROM s
    UNION ALL
    SELECT NULL, w.conmgr_addr, NULL, NULL, true, w.conmgr_id, 1,
           'no session has its label or comes from its address', NULL
      FROM pgx_stat_get_watchdog() w
     WHERE w.conmgr_id NOT IN (SELECT s.conmgr_id FROM s WHERE s.conmgr_id IS NOT NULL)
       AND w.conmgr_addr NOT IN (SELECT s.client_addr FROM s);

COMMENT ON VIEW pgx_stat_watchdog_sessions IS 'sessions of client hosts, and by what they end; conmgr processes without any';
COMMENT ON COLUMN pgx_stat_watchdog_sessions.pid IS 'null: this is a conmgr process for which there is no session';
COMMENT ON COLUMN pgx_stat_watchdog_sessions.label IS 'conmgr_id of the conmgr process that has led the client here; null: it carries none';
COMMENT ON COLUMN pgx_stat_watchdog_sessions.conmgr_alive IS 'whether that one, or its successor, is connected or may resume; if not, the session ends by its address';
COMMENT ON COLUMN pgx_stat_watchdog_sessions.conmgr_id IS 'the conmgr process with which it ends; null: those of its address';
COMMENT ON COLUMN pgx_stat_watchdog_sessions.address_conmgrs IS 'conmgr processes that have connected from its address';
COMMENT ON COLUMN pgx_stat_watchdog_sessions.warning IS 'what is wrong with that';
COMMENT ON COLUMN pgx_stat_watchdog_sessions.to_drain IS
    'whether it began before the drain of this server, and has to go; null: the server is not drained';

REVOKE ALL ON FUNCTION pgx_stat_get_watchdog_sessions() FROM PUBLIC;
REVOKE ALL ON pgx_stat_watchdog_sessions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgx_stat_get_watchdog_sessions() TO pg_monitor;
GRANT SELECT ON pgx_stat_watchdog_sessions TO pg_monitor;

CREATE FUNCTION watchdog_drain(drain boolean)
RETURNS boolean
AS 'MODULE_PATHNAME', 'watchdog_drain'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION watchdog_drain(boolean) IS
    'drain this server, until it is restarted, or do so no more; whether it is drained then';

REVOKE ALL ON FUNCTION watchdog_drain(boolean) FROM PUBLIC;
