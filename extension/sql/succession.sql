-- Only what is refused: a declaration would stay in the server that this runs against, and
-- conmgrs would believe it. t/ declares one.
CREATE EXTENSION watchdog;
SELECT watchdog_succeeds(7000000000000000001, 0);
SELECT watchdog_succeeds(7000000000000000001, -1);
SELECT watchdog_succeeds(0, 1);
SELECT watchdog_succeeds((SELECT system_identifier FROM pg_control_system()), 1);
SELECT watchdog_succeeds(NULL, 1);
DROP EXTENSION watchdog;
