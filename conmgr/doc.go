// Package conmgr is the Connection Manager daemon: it exchanges heartbeats with the watchdog worker
// of each instance, answers drivers that ask for an instance of some attribute, and tells them when
// that instance is lost. cmd/conmgr is its main function.
//
// Who runs what, and what it owns:
//
//	Run            the daemon's main goroutine: signals, the order of start and shutdown
//	watch          one goroutine an instance: its end of the heartbeats, its connection to the watchdog
//	bind.Board     one goroutine: the routing table, and telling applications of a loss
//	bind.Keeper    one goroutine: writes conmgr.state
//	sockdestroy    one goroutine a loss, if destroy_sockets is on
//	listen         one goroutine an address: accepts
//	console        one goroutine an application connection
//	relay          one goroutine a connection to a relay port, until its bytes flow
//	loop.run  one goroutine a few processors: carries the bytes of relayed connections, and owns their sockets
//	web            net/http's goroutines, one a connection; one that makes documents while a page is open
//	hook           one goroutine: runs event_command
//	cmlog.Logger   one goroutine a destination: nothing else ever waits for stderr or syslog
//
// event.Hub has its lock, which is held while subscribers take note. bind.Registry has its lock.
// session.wmu is held by the session's own goroutine while it writes, which may block; all others
// only try it. relayed.mu and loop.mu are held for a moment, each by itself.
//
//	group/ clock/ netio/                       what everything uses: goroutines, time, the network
//	cmlog/                                     the log
//	event/                                     what happens: emitted at one place each, told to the log and all who listen
//	reload.go                                  conmgr.conf read again, while it runs
//	status/                                    who listens for systemd and cm_ctl
//	conf/                                      conmgr.conf
//	watch/                                     instances: heartbeats, names, servers that stop
//	route/                                     who is offered, and who is superseded: pure
//	bind/                                      routing table, binding, loss; what is known over restarts
//	listen/                                    ports, Unix sockets, who is let in
//	console/                                   sessions and their statements (docs/protocol.md, part 2)
//	relay/                                     relay ports (2.4)
//	sockdestroy/                               destroy_sockets
//	handover/                                  what a process leaves to the program that it becomes
//	history/                                   the last events
//	hook/                                      event_command
//	metrics/                                   counters, round trips, and what is there, for Prometheus
//	web/                                       HTTP: metrics, health checks, the page
//	daemon.go limits.go                        the process
//	restart.go fits.go                         it goes on in place; what would keep it from that
//	watching.go                                how the last four are wired
package conmgr
