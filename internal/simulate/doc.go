// Package simulate runs both ends of the heartbeats against each other in one process, on a
// simulated clock and network, under random faults, and holds what they do against what is true.
//
//	clock.go     the clock, and what happens when
//	hosts.go     machines, addresses, the paths between them, several behind one address
//	tcp.go       connections: retransmission, SYN timer, resets, half-open ones
//	database.go  a database host: heartbeat/watchdog, its slots, the terminator
//	sql.go       sessions, and the backlog of a postmaster that stands still
//	client.go    a client host: conmgrs, heartbeat/instance, applications
//	entries.go   its entries, of which two may lead to one server
//	returning.go a conmgr that is started again
//	reload.go    one that reads its file again, and an instance that is removed
//	reporting.go report-only at both ends, and two runs that are compared
//	faults.go    random schedules
//	rarer.go     what every second of them has in addition
//	oracle.go    what is true, and the rules of docs/design.md
//
// A run is determined by its seed. `make simulate` runs seeds for a time; a failing one prints its
// transcript.
package simulate
