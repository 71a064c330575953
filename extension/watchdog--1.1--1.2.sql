/* watchdog--1.1--1.2.sql: the last verdicts, cumulative counters, and the doctor */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION watchdog UPDATE TO '1.2'" to load this file. \quit

CREATE FUNCTION pgx_stat_get_watchdog_verdicts(
    OUT number bigint,
    OUT decided_at timestamp with time zone,
    OUT conmgr_addr inet,
    OUT conmgr_port integer,
    OUT conmgr_id uuid,
    OUT keyid text,
    OUT cause text,
    OUT last_received timestamp with time zone,
    OUT heartbeat_timeout_ms bigint,
    OUT outcome text,
    OUT sessions_signaled bigint,
    OUT sessions_starting bigint,
    OUT sessions_spared bigint,
    OUT spared_reason text,
    OUT sessions_left bigint,
    OUT gone_after interval
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgx_stat_get_watchdog_verdicts'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pgx_stat_get_watchdog_verdicts() IS 'the last verdicts on conmgr processes, and what became of them';

CREATE VIEW pgx_stat_watchdog_verdicts AS
    SELECT v.*, v.outcome = 'reported' AS report_only FROM pgx_stat_get_watchdog_verdicts() v;

COMMENT ON VIEW pgx_stat_watchdog_verdicts IS 'the last verdicts on conmgr processes, and what became of them';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.number IS 'counted since the server has started';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.decided_at IS 'when it has fallen';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.conmgr_addr IS 'IP address of the conmgr process';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.conmgr_port IS 'ephemeral port of the conmgr process';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.conmgr_id IS 'the hash that identifies it, which its sessions carry as their label';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.keyid IS 'the key by which it had proved who it is; null: it had none';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.cause IS 'silence, goodbye, given up or closed';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.last_received IS 'when something was last received from it';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.heartbeat_timeout_ms IS 'its heartbeat_timeout, in milliseconds';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.outcome IS 'terminated, reported (watchdog.terminate is off), spared or pending';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.sessions_signaled IS 'sessions that were told to end, or would have been';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.sessions_starting IS 'sessions that were still starting, and have ended themselves, or would have';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.sessions_spared IS 'sessions that end by silence only, and have stayed';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.spared_reason IS 'why sessions have stayed; null: none has';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.sessions_left IS 'sessions that were told to end, and are still there';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.gone_after IS 'how long it took until the last one had gone; null: none was told, or one is still there';
COMMENT ON COLUMN pgx_stat_watchdog_verdicts.report_only IS 'whether nobody was told to end, as watchdog.terminate was off';

CREATE FUNCTION pgx_stat_get_watchdog_totals(
    OUT conmgrs bigint,
    OUT conmgrs_waiting bigint,
    OUT sessions_protected bigint,
    OUT sessions_unprotected bigint,
    OUT conmgrs_admitted bigint,
    OUT conmgrs_resumed bigint,
    OUT frames_received bigint,
    OUT frames_sent bigint,
    OUT verdicts_silence bigint,
    OUT verdicts_goodbye bigint,
    OUT verdicts_given_up bigint,
    OUT verdicts_closed bigint,
    OUT verdicts_spared bigint,
    OUT verdicts_put_off bigint,
    OUT verdicts_suspended bigint,
    OUT own_stalls bigint,
    OUT refused_address bigint,
    OUT refused_malformed bigint,
    OUT refused_version bigint,
    OUT refused_full bigint,
    OUT refused_setting bigint,
    OUT refused_slow bigint,
    OUT refused_unproved bigint,
    OUT refused_no_key bigint,
    OUT refused_taken bigint,
    OUT refused_crowd bigint,
    OUT terminated_silence bigint,
    OUT terminated_goodbye bigint,
    OUT terminated_given_up bigint,
    OUT terminated_closed bigint,
    OUT terminated_drain bigint,
    OUT reported_silence bigint,
    OUT reported_goodbye bigint,
    OUT reported_given_up bigint,
    OUT reported_closed bigint,
    OUT spared bigint,
    OUT worker_starts bigint,
    OUT terminator_starts bigint,
    OUT stats_reset timestamp with time zone
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgx_stat_get_watchdog_totals'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pgx_stat_get_watchdog_totals() IS 'what there is, and cumulative counters, in one row';

CREATE VIEW pgx_stat_watchdog_totals AS
    SELECT * FROM pgx_stat_get_watchdog_totals();

COMMENT ON VIEW pgx_stat_watchdog_totals IS 'what there is, and cumulative counters, in one row';
COMMENT ON COLUMN pgx_stat_watchdog_totals.conmgrs IS 'conmgr processes that are connected now';
COMMENT ON COLUMN pgx_stat_watchdog_totals.conmgrs_waiting IS 'conmgr processes that are not connected now, and may resume';
COMMENT ON COLUMN pgx_stat_watchdog_totals.sessions_protected IS 'sessions of client hosts for which a conmgr process answers now, by their label or their address';
COMMENT ON COLUMN pgx_stat_watchdog_totals.sessions_unprotected IS 'sessions of client hosts for which none does now';
COMMENT ON COLUMN pgx_stat_watchdog_totals.conmgrs_admitted IS 'conmgr processes that have connected for the first time';
COMMENT ON COLUMN pgx_stat_watchdog_totals.conmgrs_resumed IS 'times that one has connected again';
COMMENT ON COLUMN pgx_stat_watchdog_totals.frames_received IS 'frames received from conmgr processes, heartbeats most of them';
COMMENT ON COLUMN pgx_stat_watchdog_totals.frames_sent IS 'frames sent to conmgr processes';
COMMENT ON COLUMN pgx_stat_watchdog_totals.verdicts_silence IS 'verdicts on conmgr processes that were silent for heartbeat_timeout';
COMMENT ON COLUMN pgx_stat_watchdog_totals.verdicts_goodbye IS 'verdicts on conmgr processes that have ended';
COMMENT ON COLUMN pgx_stat_watchdog_totals.verdicts_given_up IS 'verdicts on conmgr processes that had declared this instance lost';
COMMENT ON COLUMN pgx_stat_watchdog_totals.verdicts_closed IS 'verdicts on conmgr processes that have closed their connection and did not resume';
COMMENT ON COLUMN pgx_stat_watchdog_totals.verdicts_spared IS 'ends of conmgr processes that were no verdict, as watchdog.terminate_on_close is off';
COMMENT ON COLUMN pgx_stat_watchdog_totals.verdicts_put_off IS 'verdicts whose part on addresses was put off, as another conmgr process was alive there';
COMMENT ON COLUMN pgx_stat_watchdog_totals.verdicts_suspended IS 'silences that were no verdict yet, as sessions of the host were heard of';
COMMENT ON COLUMN pgx_stat_watchdog_totals.own_stalls IS 'times that the watchdog worker was held up';
COMMENT ON COLUMN pgx_stat_watchdog_totals.refused_address IS 'connections from outside of watchdog.allowed_addresses';
COMMENT ON COLUMN pgx_stat_watchdog_totals.refused_malformed IS 'connections that have violated the protocol';
COMMENT ON COLUMN pgx_stat_watchdog_totals.refused_version IS 'connections of an unknown version of the protocol';
COMMENT ON COLUMN pgx_stat_watchdog_totals.refused_full IS 'connections for which there was no slot';
COMMENT ON COLUMN pgx_stat_watchdog_totals.refused_setting IS 'connections whose heartbeat settings this server does not allow';
COMMENT ON COLUMN pgx_stat_watchdog_totals.refused_slow IS 'connections that have said nothing in time';
COMMENT ON COLUMN pgx_stat_watchdog_totals.refused_unproved IS 'connections without a proof that is needed';
COMMENT ON COLUMN pgx_stat_watchdog_totals.refused_no_key IS 'connections whose key was removed';
COMMENT ON COLUMN pgx_stat_watchdog_totals.refused_taken IS 'connections with the id of another process';
COMMENT ON COLUMN pgx_stat_watchdog_totals.refused_crowd IS 'connections that had not said what they are, and were too many';
COMMENT ON COLUMN pgx_stat_watchdog_totals.terminated_silence IS 'sessions that were terminated by such a verdict, those that were still starting among them';
COMMENT ON COLUMN pgx_stat_watchdog_totals.terminated_goodbye IS 'the same';
COMMENT ON COLUMN pgx_stat_watchdog_totals.terminated_given_up IS 'the same';
COMMENT ON COLUMN pgx_stat_watchdog_totals.terminated_closed IS 'the same';
COMMENT ON COLUMN pgx_stat_watchdog_totals.terminated_drain IS 'sessions that were terminated by the drain of this server';
COMMENT ON COLUMN pgx_stat_watchdog_totals.reported_silence IS 'sessions that would have been, while watchdog.terminate was off';
COMMENT ON COLUMN pgx_stat_watchdog_totals.reported_goodbye IS 'the same';
COMMENT ON COLUMN pgx_stat_watchdog_totals.reported_given_up IS 'the same';
COMMENT ON COLUMN pgx_stat_watchdog_totals.reported_closed IS 'the same';
COMMENT ON COLUMN pgx_stat_watchdog_totals.spared IS 'sessions that were spared by a verdict, as they end by silence only';
COMMENT ON COLUMN pgx_stat_watchdog_totals.worker_starts IS 'starts of the watchdog worker';
COMMENT ON COLUMN pgx_stat_watchdog_totals.terminator_starts IS 'starts of the terminator worker';
COMMENT ON COLUMN pgx_stat_watchdog_totals.stats_reset IS 'since when the counters count';

CREATE FUNCTION pgx_stat_watchdog_reset()
RETURNS void
AS 'MODULE_PATHNAME', 'pgx_stat_watchdog_reset'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pgx_stat_watchdog_reset() IS 'set the counters of pgx_stat_watchdog_totals to zero';

REVOKE ALL ON FUNCTION pgx_stat_get_watchdog_verdicts() FROM PUBLIC;
REVOKE ALL ON pgx_stat_watchdog_verdicts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgx_stat_get_watchdog_verdicts() TO pg_read_all_stats;
GRANT SELECT ON pgx_stat_watchdog_verdicts TO pg_read_all_stats;
REVOKE ALL ON FUNCTION pgx_stat_get_watchdog_totals() FROM PUBLIC;
REVOKE ALL ON pgx_stat_watchdog_totals FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgx_stat_get_watchdog_totals() TO pg_read_all_stats;
GRANT SELECT ON pgx_stat_watchdog_totals TO pg_read_all_stats;
REVOKE ALL ON FUNCTION pgx_stat_watchdog_reset() FROM PUBLIC;

CREATE FUNCTION pgx_watchdog_version()
RETURNS text
AS 'MODULE_PATHNAME', 'pgx_watchdog_version'
LANGUAGE C STRICT STABLE PARALLEL SAFE;

COMMENT ON FUNCTION pgx_watchdog_version() IS 'version of the extension that the loaded library belongs to';

CREATE FUNCTION pgx_watchdog_doctor(
    OUT "check" text,
    OUT status text,
    OUT detail text,
    OUT advice text
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgx_watchdog_doctor'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION pgx_watchdog_doctor() IS 'what watchdog_doctor() tells, as far as the library knows it';

-- The library cannot say that it is not loaded, nor look into catalogs. The extension can be moved to
-- another schema.
CREATE FUNCTION watchdog_doctor(
    OUT "check" text,
    OUT status text,
    OUT detail text,
    OUT advice text
)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    loaded text;
    extension text;
    files text;
    schema name;
    prepared bigint;
BEGIN
    "check" := 'preload';
    IF NOT EXISTS (SELECT FROM pg_settings WHERE name = 'watchdog.port') THEN
        status := 'error';
        detail := 'The library is not loaded: no client host is monitored, and nothing is terminated.';
        advice := 'Add watchdog to shared_preload_libraries, and restart the server.';
        RETURN NEXT;
        RETURN;
    END IF;
    status := 'ok';
    detail := 'The library is loaded.';
    RETURN NEXT;

    "check" := 'version';
    SELECT extversion, nspname INTO extension, schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     WHERE extname = 'watchdog';
    SELECT default_version INTO files FROM pg_available_extensions WHERE name = 'watchdog';
    EXECUTE format('SELECT %I.pgx_watchdog_version()', schema) INTO loaded;
    detail := format('The loaded library (%s) is of %s, the extension in this database of %s, the installed files of %s.',
                     current_setting('watchdog.version'), loaded, extension, files);
    IF files <> loaded THEN
        status := 'warning';
        advice := 'Restart the server, which then loads what is installed.';
    ELSIF extension <> loaded THEN
        status := 'warning';
        advice := 'ALTER EXTENSION watchdog UPDATE;';
    END IF;
    RETURN NEXT;

    RETURN QUERY EXECUTE format('SELECT * FROM %I.pgx_watchdog_doctor()', schema);

    "check" := 'prepared transactions';
    SELECT count(*) INTO prepared FROM pg_prepared_xacts x WHERE x.prepared < now() - interval '5 minutes';
    status := CASE WHEN prepared > 0 THEN 'warning' ELSE 'ok' END;
    detail := format('%s are older than 5 minutes.', prepared);
    advice := CASE WHEN prepared > 0 THEN 'They outlive the session and the host that have made them, with their locks: COMMIT PREPARED or ROLLBACK PREPARED them. See pg_prepared_xacts.' END;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION watchdog_doctor() IS 'what is wrong, or will be, as far as this server sees it, and what to do about it';

REVOKE ALL ON FUNCTION pgx_watchdog_version() FROM PUBLIC;
REVOKE ALL ON FUNCTION pgx_watchdog_doctor() FROM PUBLIC;
REVOKE ALL ON FUNCTION watchdog_doctor() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgx_watchdog_version() TO pg_read_all_stats;
GRANT EXECUTE ON FUNCTION pgx_watchdog_doctor() TO pg_read_all_stats;
GRANT EXECUTE ON FUNCTION watchdog_doctor() TO pg_read_all_stats;

-- Those of 1.0 and 1.1, too, by the role that PostgreSQL has for statistics. pg_monitor is a member of it. Privileges that
-- somebody has changed since stay as they are: what is granted in this script is not dumped any more.
DO $$
DECLARE
    privilege text;
BEGIN
    FOR privilege IN
        SELECT format('%s ON %s', a.privilege_type, o.name)
          FROM (SELECT 'pg_proc'::regclass AS class, oid, 'FUNCTION ' || oid::regprocedure AS name, proacl AS acl FROM pg_proc
                UNION ALL
                SELECT 'pg_class'::regclass, oid, oid::regclass::text, relacl FROM pg_class) o
          JOIN pg_depend d ON d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e'
          JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND e.extname = 'watchdog'
          JOIN pg_init_privs i ON i.classoid = o.class AND i.objoid = o.oid AND i.objsubid = 0 AND i.initprivs = o.acl
         CROSS JOIN aclexplode(o.acl) a
         WHERE a.grantee = 'pg_monitor'::regrole
    LOOP
        EXECUTE format('GRANT %s TO pg_read_all_stats', privilege);
        EXECUTE format('REVOKE %s FROM pg_monitor', privilege);
    END LOOP;
END
$$;
