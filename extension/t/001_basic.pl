# A server with watchdog preloaded: the heartbeat port, a succession, and a restart.
use strict;
use warnings;

use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'watchdog'
watchdog.port = $port
watchdog.listen_addresses = '127.0.0.1'
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION watchdog');

# The postmaster starts the worker when the server is consistent: not before the first connection.
my $peer;
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	$peer = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) and last;
	select(undef, undef, undef, 0.1);
}
ok($peer, 'the watchdog worker listens');

# Who is not a conmgr is told so, and leaves no row.
print $peer "GET / HTTP/1.0\r\n\r\n";
my $answer = do { local $/; <$peer> };
ok(defined $answer, 'a stranger is turned away');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pgx_stat_watchdog'), '0', 'a stranger is not shown');

# A succession outlives the server.
$node->safe_psql('postgres', 'SELECT watchdog_succeeds(7000000000000000001, 3)');
my $declared = $node->safe_psql('postgres', 'SELECT * FROM watchdog_succession()');
is($declared, '7000000000000000001|3', 'a succession is declared');
$node->restart;
is($node->safe_psql('postgres', 'SELECT * FROM watchdog_succession()'), $declared, 'and kept');

$node->stop;
my ($result, undef, $err) = (undef, undef, undef);
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
($result, undef, $err) = $node->psql('postgres', 'LOAD \'watchdog\'');
isnt($result, 0, 'not without preloading');
like($err, qr/must be loaded by "shared_preload_libraries"/, 'the error tells how');
$node->stop;

done_testing();
