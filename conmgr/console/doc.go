// Package console answers those who ask conmgr over its port: drivers, cm_ctl, people with psql
// (docs/protocol.md, part 2). A bound session is told here of the loss of its instance.
//
//	session.go     one connection: its life, its writes, its end by somebody else
//	extended.go    simple and extended query protocol
//	statement.go   the statements, taken apart
//	target.go      SHOW TARGET: its clauses, binding, and waiting for an instance
//	input.go       what is read from a client, also while it waits
//	notice.go      what a bound session is told without being ended
//	answers.go     and their answers
//	forgetting.go  FORGET, DRAIN, UNDRAIN; who may do what, and sees whom
//	settings.go    SET and RESET
//	stats.go       SHOW STATS
//	handing.go     sessions that go on in the process that conmgr becomes
package console
