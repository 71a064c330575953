// Package probe gathers the facts for package doctor: it reads conmgr.conf and /proc, asks a conmgr
// that runs, connects to the ports of each instance, asks its watchdog, and, with credentials, the
// server by SQL. It changes nothing, and no server takes it for a conmgr.
//
//	run.go      cm_ctl doctor: from the command line to the exit status
//	gather.go   all facts, at the same time where that is possible
//	local.go    conmgr.conf, conmgr, limits
//	front.go    the libpq front, and libpq
//	reach.go    a connection, and why there is none
//	ask.go      what listens there
//	sql.go      a session
//
// Run by cm_ctl's main goroutine, and one for each address of an instance; blocks for as long as
// --timeout says, at most.
package probe
