// Package control is the directory of a conmgr process and the ways to control that process: the
// pid file with its lock, and what the command cm_ctl does (start, stop, restart, status, forget,
// drain, undrain, events, genkey). conmgr itself uses the pid file, and the files that are kept.
//
//	info.go     the record in conmgr.pid
//	pidfile.go  the pid file of the running process: create, lock, update, remove
//	running.go  who runs in a directory, as others see it
//	process.go  identity of a process, signals to it, its end
//	options.go actions.go  the command line of cm_ctl: what options mean, and the table
//	command.go  the command itself: help, checks, dispatch
//	start.go stop.go restart.go reload.go status.go forget.go drain.go events.go  the actions
//	genkey.go   a new key for heartbeats
//	doctor.go   doctor, which package doctor does
//	check.go    status --check: an exit status for monitoring
//	sessions.go what the end of conmgr does to this host's sessions
//	console.go  questions to conmgr over its port
//	people.go   lists for people
//	terminal.go colours, and status --watch
//	table.go    tables
//	statefile.go   conmgr.state: what is known over restarts
//	identity.go    conmgr.identity: who this conmgr is to the servers, over restarts
//	drainfile.go   conmgr.drain: which instances are drained on this host
//	socketlock.go  lock files of Unix sockets
//
// The lock on conmgr.pid is the truth of "running": the kernel drops it with the process, whatever
// the process died of. What the file says is believed only as far as the boot id and the start time
// of the process confirm it, so that a stale file never leads to a stranger.
package control
