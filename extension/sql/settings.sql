-- What a DBA can set, and how: docs/operations.md has the words.
SELECT name, vartype, unit, context, min_val, max_val,
       CASE WHEN name NOT IN ('watchdog.listen_addresses', 'watchdog.max_heartbeat_connections') THEN boot_val END AS boot_val
  FROM pg_settings WHERE name LIKE 'watchdog.%' AND context <> 'internal' ORDER BY name COLLATE "C";

-- Their defaults are those of the server's own connections.
SELECT name, boot_val = current_setting(replace(replace(name, 'watchdog.', ''), 'heartbeat_', '')) AS follows
  FROM pg_settings WHERE name IN ('watchdog.listen_addresses', 'watchdog.max_heartbeat_connections') ORDER BY name;

-- No session can change what holds for all.
SET watchdog.max_heartbeat_connections = 1;
SET watchdog.terminate_on_close = off;
-- The words for it differ between versions.
\set VERBOSITY sqlstate
ALTER SYSTEM SET watchdog.port = 0;
ALTER SYSTEM SET watchdog.max_heartbeat_timeout = '10ms';
ALTER SYSTEM SET watchdog.authentication = 'maybe';
\set VERBOSITY terse
ALTER SYSTEM SET watchdog.allowed_addresses = '192.0.2.0/24, 2001:db8::/32,10.0.0.1/8';
