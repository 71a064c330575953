CREATE EXTENSION watchdog;

SELECT attname, format_type(atttypid, atttypmod)
  FROM pg_attribute WHERE attrelid = 'pgx_stat_watchdog'::regclass AND attnum > 0 ORDER BY attnum;

SELECT attname, format_type(atttypid, atttypmod)
  FROM pg_attribute WHERE attrelid = 'pgx_stat_watchdog_sessions'::regclass AND attnum > 0 ORDER BY attnum;
SELECT count(*) FROM pgx_stat_watchdog_sessions WHERE pid IS NOT NULL AND (label IS NULL) <> (conmgr_alive IS NULL);

-- Every row is of a living connection.
SELECT count(*) FROM pgx_stat_watchdog
 WHERE heartbeat_timeout_ms < heartbeat_interval_ms OR received_count < 1 OR last_received < connected_since;

-- It shows addresses: for those who may monitor.
CREATE ROLE regress_watchdog_nobody;
CREATE ROLE regress_watchdog_monitor;
GRANT pg_monitor TO regress_watchdog_monitor;
SET ROLE regress_watchdog_nobody;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog;
SELECT watchdog_succession();
SELECT watchdog_succeeds(1, 1);
SELECT watchdog_drain(true);
SET ROLE regress_watchdog_monitor;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog;
SELECT * FROM watchdog_succession() WHERE false;
SELECT watchdog_succeeds(1, 1);
SELECT watchdog_drain(true);
RESET ROLE;
GRANT EXECUTE ON FUNCTION watchdog_drain(boolean) TO regress_watchdog_nobody;
SET ROLE regress_watchdog_nobody;
SELECT watchdog_drain(NULL), watchdog_drain(false);
RESET ROLE;
REVOKE ALL ON FUNCTION watchdog_drain(boolean) FROM regress_watchdog_nobody;
DROP ROLE regress_watchdog_nobody, regress_watchdog_monitor;

-- An update leads to what a new installation has.
CREATE TABLE fresh AS SELECT p.oid::regprocedure::text AS f, proacl::text FROM pg_proc p
  JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'watchdog';
DROP EXTENSION watchdog;
CREATE EXTENSION watchdog VERSION '1.0';
ALTER EXTENSION watchdog UPDATE;
SELECT count(*) AS others FROM (
  (SELECT p.oid::regprocedure::text, proacl::text FROM pg_proc p
     JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
     JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'watchdog' EXCEPT SELECT * FROM fresh)) x;
DROP TABLE fresh;
DROP EXTENSION watchdog;
