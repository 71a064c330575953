# Ruby's pg, whose connecting and waiting are asynchronous inside: where it is, and what it gets when the instance is lost.
# Usage: how conninfo
require 'pg'

how, conninfo = ARGV
PG::Connection.async_api = how == 'async'
conn = PG.connect(conninfo)
puts "port #{conn.exec('select inet_server_port()').getvalue(0, 0)}"
puts 'ready'
$stdout.flush
begin
  conn.exec('select pg_sleep(60)')
  puts 'not lost'
rescue PG::Error => e
  puts "lost: #{e.message} closed #{conn.status == PG::CONNECTION_BAD}"
end
