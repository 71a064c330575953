// Package doctor says what is wrong with a client host and its servers, and what to do about it. Its
// checks are pure functions of facts; package probe gathers these.
//
//	facts.go    what was found
//	doctor.go   the findings, and all checks in order
//	host.go     checks of this host: conmgr.conf, conmgr, limits, capability, front
//	server.go   checks of one instance: name, ports, clock
//	watchdog.go checks of what its watchdog tells, and of addresses
//	set.go      checks of all instances together
//	report.go   findings for people and for programs
package doctor
