package rules

// The rules of conmgr's rooms: which of them may import which; and of who looks for what is wrong.
// Reads source files only.

import "slices"

// rooms are the packages of conmgr/, from the ground up, and which of each other they may import.
// The daemon itself, conmgr/, wires them. None of those that emit events may reach the log past
// them.
var rooms = []struct {
	folder string
	mayUse []string
	reason string
}{
	{"conmgr/group", nil, "everything starts its goroutines by it"},
	{"conmgr/clock", nil, "everything asks it for the time"},
	{"conmgr/netio", nil, "what everybody needs of the network decides nothing"},
	{"conmgr/cmlog", []string{"group", "netio"}, "everything logs: the log knows nobody"},
	{"conmgr/conf", []string{"cmlog"}, "conmgr.conf is read without a daemon: by cm_ctl, tests and the documentation"},
	{"conmgr/route", nil, "who is offered is a pure decision"},
	{"conmgr/event", []string{"clock", "cmlog", "conf"}, "who tells does not know who listens; what others are to know, the log too, hangs on events"},
	{"conmgr/status", []string{"event"}, "what others see of the process is made of events, and of nothing else"},
	{"conmgr/bind", []string{"group", "clock", "event", "conf", "route"},
		"who is bound, and who is told, is decided without a socket: a session and a relayed connection look the same"},
	{"conmgr/sockdestroy", []string{"group", "netio", "event", "conf", "bind"}, "what ends connections of others has no other way in than a loss"},
	{"conmgr/watch", []string{"group", "clock", "netio", "event", "conf", "bind"}, "who watches instances reaches no application"},
	{"conmgr/handover", []string{"event"}, "what a process leaves to the one that it becomes is plain data"},
	{"conmgr/history", []string{"event"}, "what has happened is made of events, and of nothing else"},
	{"conmgr/hook", []string{"event", "handover"}, "a command of the administrator's is told of events, and reaches nothing"},
	{"conmgr/metrics", []string{"clock", "event", "conf", "bind", "handover"}, "who measures reads snapshots, and changes nothing"},
	{"conmgr/web", []string{"group", "clock", "event", "conf", "bind", "listen", "history", "metrics"},
		"whoever looks by HTTP reaches no session, no relayed connection and no heartbeat"},
	{"conmgr/listen", []string{"group", "netio", "event", "conf", "bind", "handover"}, "who lets people in does not know what becomes of them"},
	{"conmgr/console", []string{"group", "netio", "event", "conf", "route", "bind", "listen", "history", "handover"}, "a session cannot reach a relayed connection"},
	{"conmgr/relay", []string{"group", "netio", "event", "conf", "bind", "listen", "handover"}, "the relay cannot reach a session"},
}

func init() {
	for _, room := range rooms {
		allowed := []string{room.folder}
		for _, name := range room.mayUse {
			allowed = append(allowed, "conmgr/"+name)
		}
		importRules = append(importRules, importRule{[]string{room.folder}, forbids(func(_ *source, i string) bool {
			return under(i, "conmgr") && !slices.Contains(allowed, i)
		}).notInTests(), room.reason})
	}
	importRules = append(importRules,
		importRule{[]string{"doctor"}, forbids(func(s *source, i string) bool {
			return local(i) && i != "heartbeat" && i != "internal/cells" && !under(i, "doctor") && !s.in("doctor/probe")
		}), "what is wrong is decided by facts alone: a check can neither reach a socket nor a file"},
		importRule{[]string{"doctor"}, forbids(func(s *source, i string) bool {
			return (i == "net" || under(i, "os", "golang.org/x/sys", "syscall", "log", "context", "database/sql")) && !s.in("doctor/probe")
		}).notInTests(), "what is wrong must depend on nothing but the facts that were gathered"},
		importRule{[]string{"doctor"}, anyOf("worker", "terminator", "cgo", "conmgr/watch", "conmgr/bind", "conmgr/console", "conmgr/listen", "conmgr/relay", "heartbeat/instance"),
			"who looks for what is wrong is no conmgr: he reads its configuration, and asks"},
	)
}
