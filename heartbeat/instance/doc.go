// Package instance is conmgr's end of the heartbeats with one instance: an event and the time go
// in, actions come out (Step). It owns the instance's heartbeat.Monitor, which knows what the
// instance is, and its heartbeat.Attempts, and decides what comes after what: names, addresses, the
// connection, HELLO, WELCOME, frames, verdicts, goodbyes, questions to a server that stops, pauses.
//
// It is pure: no socket, no goroutine, no clock. conmgr/watch moves the bytes, and
// internal/simulate runs it against heartbeat/watchdog. testdata/ has scripts of what it does.
//
//	step.go      events, actions, Step
//	attempt.go   one attempt: addresses one by one, HELLO, WELCOME; and the pause after it
//	names.go     the addresses of a name, looked up beside the heartbeats
//	serve.go     an established connection; verdicts
//	beside.go    connections beside one that is in doubt
//	prove.go     with a key: what counts, and what does not
//	shared.go    one server under two entries
//	stopping.go  a server that shuts down is asked for its life
package instance
