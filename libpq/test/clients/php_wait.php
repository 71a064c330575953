<?php
// PHP's pgsql: where it is, and what it gets when the instance is lost. Usage: how conninfo
[, $how, $conninfo] = $argv;
$conn = pg_connect($conninfo, $how == 'async' ? PGSQL_CONNECT_ASYNC : 0);
if ($how == 'async') {
    $socket = pg_socket($conn);
    while (($state = pg_connect_poll($conn)) != PGSQL_POLLING_OK) {
        if ($state == PGSQL_POLLING_FAILED) {
            exit("failed\n");
        }
        $socket = pg_socket($conn); // may have changed
        $read = $state == PGSQL_POLLING_READING ? [$socket] : [];
        $write = $state == PGSQL_POLLING_WRITING ? [$socket] : [];
        $except = [];
        stream_select($read, $write, $except, 10);
    }
}
echo "port ", pg_fetch_result(pg_query($conn, 'select inet_server_port()'), 0, 0), "\n";
echo "ready\n";
if ($how == 'async') {
    // false: it was lost before
    $sent = @pg_send_query($conn, 'select pg_sleep(60)');
    echo !$sent || pg_result_status(pg_get_result($conn)) == PGSQL_FATAL_ERROR ? 'lost: ' : 'not lost: ', pg_last_error($conn), "\n";
} else {
    $result = @pg_query($conn, 'select pg_sleep(60)');
    echo $result === false ? 'lost: ' : 'not lost: ', pg_last_error($conn), "\n";
}
echo pg_connection_status($conn) == PGSQL_CONNECTION_BAD ? "closed\n" : "open\n";
