// Package watchdog is the watchdog's end of the heartbeats, as a state machine: an event and the
// time go in, actions come out. It knows no socket, no clock and no process; worker/ moves bytes
// and clocks, and internal/simulate drives it on a simulated network. Whose sessions end, it asks
// terminator/.
//
//	step.go      events, actions, and what follows from one
//	frames.go    bytes into frames, and what each frame means
//	table.go     the conmgrs that are known, and their connections: docs/protocol.md 1.4
//	hello.go     who is admitted, and as whom
//	successor.go a conmgr that was started again, and two that live under one id
//	access.go    from where they may come, and whether they have to prove who they are
//	prove.go     what follows from a proof, and from none
//	slots.go     whose slot a new conmgr gets
//	verdict.go   the ends of conmgrs: docs/protocol.md 1.5; terminator/ decides
//	putoff.go    verdicts on addresses that are put off for others' sake
//	timers.go    who has to be looked at next
//	pending.go   peers that have not proven themselves yet
//	loglimit.go  what peers can make the log say, within bounds
//	slot.go      the slots that outlive the process, sessions, times, log lines
//	history.go   counters, and the last verdicts, for those who ask later
//	memory.go    slots in ordinary memory, for tests and the simulator
//
// A Table is owned by one goroutine; nothing in it blocks.
package watchdog
