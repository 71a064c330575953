package main

// Mutations of who a client of conmgr is, and of what conmgr makes of time and silence.

var conmgrMutations = []mutation{
	{
		name:      "conmgr/bound-client-counts",
		invariant: "a client whose socket is bound to an interface counts for its user",
		file:      "internal/sockowner/linux.go",
		from:      "range []uint32{0, loopbackIndex}",
		to:        "range []uint32{0}",
		test:      "-run TestShareOfBoundToAnInterface ./conmgr",
	},
	{
		name:      "conmgr/listener-holds-nothing",
		invariant: "a listener is not taken for the holder of a connection that has ended",
		file:      "internal/sockowner/linux.go",
		from:      "if err == nil && s.pair != p {",
		to:        "if false {",
		test:      "-run TestLookupGone ./internal/sockowner",
	},
	{
		name:      "conmgr/closed-is-nobodys",
		invariant: "a socket that its process has closed, which the kernel shows as root's, does not count for root",
		file:      "internal/sockowner/linux.go",
		from:      "case err == nil && s.inode != 0:",
		to:        "case err == nil:",
		test:      "-run TestLookupGone ./internal/sockowner",
	},
	{
		name:      "conmgr/another-server-is-no-answer",
		invariant: "another server at the port of one that stops is not that one's answer",
		file:      "conmgr/watch/stopwatch.go",
		from:      "if errorCode(buf[:n]) != cm.CannotConnectNow {",
		to:        "if err != nil && errorCode(buf[:n]) != cm.CannotConnectNow {",
		test:      "-run TestStoppingServerIsSilent ./conmgr",
	},
}

// resumingMutations are of how conmgr comes back to the server that knows it.
var resumingMutations = []mutation{
	{
		name:      "conmgr/last-words",
		invariant: "what an instance has said counts, also if it is lost before the next table",
		file:      "conmgr/bind/board.go",
		from:      "if u.fresh && u.Established() {",
		to:        "if false {",
		test:      "-run TestLastWordsCount ./conmgr/bind",
	},
	{
		name:      "conmgr/grace-of-the-first-promotion",
		invariant: "the grace of a standby runs from the first promotion that it has missed",
		file:      "conmgr/route/route.go",
		from:      "if s.Timeline > timeline {",
		to:        "if false {",
		test:      "-run TestStandbyGraceIsOf ./conmgr/route",
	},
	{
		name:      "conmgr/listeners-count",
		invariant: "more listeners than by default take no descriptors from heartbeats",
		file:      "conmgr/conf/descriptors.go",
		from:      "more := max(0, listeners-usualListeners)",
		to:        "more := max(0, listeners-1000)",
		test:      "-run TestConnectionLimit ./conmgr",
	},
	{
		name:      "conmgr/answer-before-loss",
		invariant: "who is bound has his answer before he is told of a loss",
		file:      "conmgr/console/session.go",
		from:      "CompareAndSwap(nil, &message) || s.owed.Load() {",
		to:        "CompareAndSwap(nil, &message) {",
		test:      "-run TestLossBetweenBindingAndAnswer ./conmgr",
	},
}
