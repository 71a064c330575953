-- What a DBA can set, and how: docs/operations.md has the words.
SELECT name, vartype, unit, context, min_val, max_val,
       CASE WHEN name <> 'watchdog.max_heartbeat_connections' THEN boot_val END AS boot_val
  FROM pg_settings WHERE name LIKE 'watchdog.%' ORDER BY name COLLATE "C";

-- Its default is that of the server's own connections.
SELECT boot_val = current_setting('max_connections') AS follows_max_connections
  FROM pg_settings WHERE name = 'watchdog.max_heartbeat_connections';

-- No session can change what holds for all.
SET watchdog.port = 1;
SET watchdog.terminate_on_close = off;
-- The words for it differ between versions.
\set VERBOSITY sqlstate
ALTER SYSTEM SET watchdog.port = 0;
ALTER SYSTEM SET watchdog.max_heartbeat_timeout = '10ms';
ALTER SYSTEM SET watchdog.authentication = 'maybe';
\set VERBOSITY terse
ALTER SYSTEM SET watchdog.allowed_addresses = '192.0.2.0/24, 2001:db8::/32,10.0.0.1/8';
