// Package watch exchanges heartbeats with the watchdog of each instance, and posts to the board
// what it learns. It moves bytes and clocks: what an instance is, and what is done next, is decided
// in package heartbeat/instance.
//
//	instance.go    one instance: its goroutine, what comes in and what has to be done
//	connect.go     its connection: dialled, written to, closed
//	identity.go    who this conmgr is to the watchdogs, over its restarts
//	link.go        one connection: its buffer and deadlines
//	key.go         the key, read again
//	lookup.go      names
//	stopwatch.go   the questions to a server that shuts down
//	sameserver.go  which entry serves which server
//	events.go      what is told of an instance
package watch
