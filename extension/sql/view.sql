CREATE EXTENSION watchdog;

SELECT attname, format_type(atttypid, atttypmod)
  FROM pg_attribute WHERE attrelid = 'pgx_stat_watchdog'::regclass AND attnum > 0 ORDER BY attnum;

SELECT attname, format_type(atttypid, atttypmod)
  FROM pg_attribute WHERE attrelid = 'pgx_stat_watchdog_sessions'::regclass AND attnum > 0 ORDER BY attnum;
SELECT count(*) FROM pgx_stat_watchdog_sessions WHERE pid IS NOT NULL AND (label IS NULL) <> (conmgr_alive IS NULL);

-- Every row is of a living connection.
SELECT count(*) FROM pgx_stat_watchdog
 WHERE heartbeat_timeout_ms < heartbeat_interval_ms OR received_count < 1 OR last_received < connected_since;

SELECT attname, format_type(atttypid, atttypmod)
  FROM pg_attribute WHERE attrelid = 'pgx_stat_watchdog_verdicts'::regclass AND attnum > 0 ORDER BY attnum;
SELECT "check", status FROM watchdog_doctor() WHERE status = 'error';
SELECT count(*), min(stats_reset) <= now() AS reset FROM pgx_stat_watchdog_totals;

-- It shows addresses: for those who may read all statistics, among whom are those who may monitor.
CREATE ROLE regress_watchdog_nobody;
CREATE ROLE regress_watchdog_stats;
CREATE ROLE regress_watchdog_monitor;
GRANT pg_read_all_stats TO regress_watchdog_stats;
GRANT pg_monitor TO regress_watchdog_monitor;
SELECT a.grantee::regrole, a.privilege_type, count(*)
  FROM (SELECT oid, proacl AS acl FROM pg_proc UNION ALL SELECT oid, relacl FROM pg_class) o
  JOIN pg_depend d ON d.objid = o.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'watchdog'
 CROSS JOIN aclexplode(o.acl) a WHERE a.grantor <> a.grantee GROUP BY 1, 2 ORDER BY 2;
SET ROLE regress_watchdog_nobody;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog_sessions;
SELECT watchdog_succession();
SELECT watchdog_succeeds(1, 1);
SELECT watchdog_drain(true);
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog_verdicts;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog_totals;
SELECT pgx_stat_watchdog_reset();
SELECT count(*) > 10 AS checks FROM watchdog_doctor();
SET ROLE regress_watchdog_stats;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog_sessions;
SELECT * FROM watchdog_succession() WHERE false;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog_verdicts;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog_totals;
SELECT count(*) > 10 AS checks FROM watchdog_doctor();
SELECT pgx_stat_watchdog_reset();
SET ROLE regress_watchdog_monitor;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog;
SELECT * FROM watchdog_succession() WHERE false;
SELECT watchdog_succeeds(1, 1);
SELECT watchdog_drain(true);
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog_verdicts;
SELECT count(*) >= 0 AS readable FROM pgx_stat_watchdog_totals;
SELECT pgx_stat_watchdog_reset();
SELECT count(*) > 10 AS checks FROM watchdog_doctor();
RESET ROLE;
GRANT EXECUTE ON FUNCTION watchdog_drain(boolean) TO regress_watchdog_nobody;
SET ROLE regress_watchdog_nobody;
SELECT watchdog_drain(NULL), watchdog_drain(false);
RESET ROLE;
REVOKE ALL ON FUNCTION watchdog_drain(boolean) FROM regress_watchdog_nobody;
DROP ROLE regress_watchdog_nobody, regress_watchdog_stats, regress_watchdog_monitor;

-- An update leads to what a new installation has. Privileges that were changed meanwhile are dumped as before.
CREATE VIEW installed AS
  SELECT pg_describe_object(d.classid, o.oid, 0) AS name, o.acl::text, i.initprivs::text
    FROM (SELECT oid, proacl AS acl FROM pg_proc UNION ALL SELECT oid, relacl FROM pg_class) o
    JOIN pg_depend d ON d.objid = o.oid AND d.deptype = 'e'
    JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'watchdog'
    LEFT JOIN pg_init_privs i ON i.objoid = o.oid AND i.classoid = d.classid;
CREATE TABLE fresh AS SELECT * FROM installed;
DROP EXTENSION watchdog;
CREATE EXTENSION watchdog VERSION '1.0';
ALTER EXTENSION watchdog UPDATE;
SELECT * FROM installed EXCEPT SELECT * FROM fresh;
DROP EXTENSION watchdog;
CREATE ROLE regress_watchdog_granted;
CREATE EXTENSION watchdog VERSION '1.1';
GRANT SELECT ON pgx_stat_watchdog_sessions TO regress_watchdog_granted;
ALTER EXTENSION watchdog UPDATE;
SELECT name, acl LIKE '%pg_monitor=r/%' AND acl LIKE '%regress_watchdog_granted=r/%' AS kept, initprivs LIKE '%granted%' AS initial
  FROM (SELECT * FROM installed EXCEPT SELECT * FROM fresh) x;
DROP VIEW installed;
DROP TABLE fresh;

-- It can be moved.
CREATE SCHEMA regress_watchdog;
ALTER EXTENSION watchdog SET SCHEMA regress_watchdog;
SELECT count(*) > 10 AS checks FROM regress_watchdog.watchdog_doctor();
DROP EXTENSION watchdog;
DROP ROLE regress_watchdog_granted;
DROP SCHEMA regress_watchdog;
