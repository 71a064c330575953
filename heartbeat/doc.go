// Package heartbeat is the heartbeat protocol between conmgr and the watchdog worker of a
// PostgreSQL instance: the wire format and the state that each end keeps of it. docs/protocol.md,
// part 1, is its specification.
//
// Everything here is pure: no socket, no goroutine, no clock. Callers own sockets and pass the time
// in, so that tests own time.
//
//	wire.go      frames and numbers of the protocol
//	link.go      a connection that both ends have proved
//	echo.go      when the BEATs were sent that are echoed
//	keyed.go     the two messages of a proof
//	messages.go  one encoder and one decoder a message
//	pulse.go     the two timers of an end: when to send, when to judge
//	monitor.go   what conmgr knows of an instance
//	attempts.go  when conmgr connects again
//
// The two ends, a Step each, are packages instance (conmgr's) and watchdog.
package heartbeat
