// Package watch exchanges heartbeats with the watchdog of each instance, and posts to the board what
// it learns. What an instance is, and when the next attempt is due, is decided in package heartbeat.
//
//	instance.go    one instance: its goroutine, from one connection to the next
//	connect.go     one attempt: TCP, HELLO, WELCOME
//	link.go        one connection: its buffer and deadlines
//	lookup.go      names, resolved beside the heartbeats
//	stopwatch.go   a server that shuts down is asked for its life
//	sameserver.go  one server under two entries
//	events.go      what is told of an instance
package watch
