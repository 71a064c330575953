package main

// Mutations of what conmgr tells of itself: events, the log, systemd and the pid file.

const (
	hubTests     = "./conmgr/event"
	statusTests  = "./conmgr/status"
	pidFileTests = "-run TestPidFileFormat ./control"
	waitingTests = "-run TestStartWithoutPrimary ./control"
)

var eventMutations = []mutation{
	{
		name:      "events/one-order",
		invariant: "all subscribers see events in one order",
		file:      "conmgr/event/event.go",
		from:      "	h.mu.Lock()\n	defer h.mu.Unlock()\n	for _, take",
		to:        "	for _, take",
		test:      "-run TestOneOrder " + hubTests,
	},
	{
		name:      "events/panic-releases",
		invariant: "a subscriber that panics holds no other emitter up",
		file:      "conmgr/event/event.go",
		from:      "	defer h.mu.Unlock()\n	for _, take := range h.subscribers {\n		take(e)\n	}\n",
		to:        "	for _, take := range h.subscribers {\n		take(e)\n	}\n	h.mu.Unlock()\n",
		test:      "-timeout 20s -run TestHubAfterAPanic " + hubTests,
	},
	{
		name:      "events/limited-by-kind",
		invariant: "what a peer can cause again and again is limited in the log",
		file:      "conmgr/event/log.go",
		from:      "if p, is := e.(peerMade); is {",
		to:        "if p, is := e.(peerMade); is && false {",
		test:      "-run TestPeersAreLimited " + hubTests,
	},
	{
		name:      "events/lasting-once-a-minute",
		invariant: "an attempt that fails again and again is logged once a minute",
		file:      "conmgr/event/log.go",
		from:      "now.Sub(last) < repeatAfter",
		to:        "now.Sub(last) < 0",
		test:      "-run TestWhatLasts " + hubTests,
	},
	{
		name:      "events/lasting-anew",
		invariant: "a failure after a connection is logged, whatever was logged before it",
		file:      "conmgr/event/log.go",
		from:      "delete(w.told, e.Number)",
		to:        "_ = e",
		test:      "-run TestWhatLasts " + hubTests,
	},
	{
		name:      "events/unasked-costs-nothing",
		invariant: "what the log does not want is not described",
		file:      "conmgr/event/log.go",
		from:      "	if !w.log.Wants(e.Level()) {\n		return\n	}\n",
		to:        "",
		test:      "-run TestLevels " + hubTests,
	},
	{
		name:      "events/presence-once",
		invariant: "what is there is told when it changes, and at the start",
		file:      "conmgr/bind/board.go",
		from:      "b.presence == nil || *b.presence != p",
		to:        "b.presence == nil",
		test:      "-run TestPresence ./conmgr/bind",
	},
	{
		name:      "events/duplicates-are-there",
		invariant: "a server that is monitored by way of another entry is there",
		file:      "conmgr/bind/table.go",
		from:      "if t.Entries[i].Connected() {",
		to:        "if t.Entries[i].Established() {",
		test:      "-run TestPresence ./conmgr/bind",
	},
	{
		name:      "events/ready-is-told",
		invariant: "a later status does not take READY=1 away",
		file:      "conmgr/status/systemd.go",
		from:      "	lines := s.states\n",
		to:        "	lines := s.states\n	if s.status != \"connecting to instances\" {\n		lines = nil\n	}\n",
		test:      statusTests,
	},
	{
		name:      "events/what-came-and-went",
		invariant: "what was there between two writings of the pid file counts",
		file:      "conmgr/status/pidfile.go",
		from:      "p.Been.All = p.Been.All || p.Now.All",
		to:        "p.Been.All = p.Now.All",
		test:      statusTests,
	},
	{
		name:      "events/status-never-back",
		invariant: "the status in the pid file never goes back",
		file:      "control/pidfile.go",
		from:      "s.rank() > next.Status.rank()",
		to:        "s.rank() != next.Status.rank()",
		test:      pidFileTests,
	},
	{
		name:      "events/start-waits-for-a-primary",
		invariant: "cm_ctl start waits for a primary, also if all instances are there",
		file:      "control/start.go",
		from:      "if !info.Presence.Primary {",
		to:        "if false {",
		test:      waitingTests,
	},
	{
		name:      "events/columns-for-cm_ctl",
		invariant: "cm_ctl reads what conmgr's console has written, column by column",
		file:      "conmgr/console/answers.go",
		from:      "lastRole(e), system(e),\n",
		to:        "system(e), lastRole(e),\n",
		test:      "-run TestStatusOfConmgrsConsole ./control",
	},
	{
		name:      "events/start-asks-an-older-conmgr",
		invariant: "of a conmgr whose pid file does not tell, cm_ctl start asks for the primary",
		file:      "control/start.go",
		from:      "if !hasPrimary(ctx, info) {",
		to:        "if false {",
		test:      waitingTests,
	},
}
