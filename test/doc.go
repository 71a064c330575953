// Package test holds the tests of the whole: real PostgreSQL servers with the extension, real
// conmgrs, and real clients in network namespaces around a switch that injects the faults. They
// need root and what `make` builds.
//
//	world_test.go      the hosts, servers and sessions that the tests use
//	silence_test.go    silent faults: both sides' verdicts and when they fall
//	closing_test.go    connections and processes that end audibly
//	sessions_test.go   whose sessions are ended, in which state
//	worker_test.go     faults of the watchdog worker itself
//	bothworkers_test.go   both workers end, and are started again
//	away_test.go       conmgr is restarted, killed or upgraded: what goes on, and who is told
//	takeover_test.go   an address that is another machine's, soon after its owner's death
//	starting_test.go, crowd_test.go   sessions that are starting when their host dies, or 200 hosts do
//	clock_test.go      the wall clock is set
//	server_test.go     the life of one server: stop, restart, crash, read only
//	failover_test.go   promotion, two primaries, demotion, standbys
//	extension_test.go  settings and SQL objects of the extension
//	listen_test.go     the heartbeat port: addresses, places, strangers
//	ctl_test.go        cm_ctl in a client host, for cmctl_test.go
//	cmctl_test.go      each action of cm_ctl
//	relay_test.go      relay ports with stock clients
//	destroy_test.go    destroy_sockets with stock clients
//	drivers_test.go    node-postgres and pgJDBC, both ways; their programs are in clients/
package test
