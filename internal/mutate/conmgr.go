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
		name:      "conmgr/frozen-while-connecting",
		invariant: "a conmgr that was frozen while it connected gives the next attempt time",
		file:      "conmgr/watch/instance.go",
		from:      "in.mon.Late(now.Sub(due))",
		to:        "in.mon.Late(0 * now.Sub(due))",
		test:      "-run TestFrozenWhileConnecting ./conmgr",
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
		name:      "conmgr/resume-by-the-same-address",
		invariant: "before its deadline a connection is resumed by the same address of a name",
		file:      "conmgr/watch/instance.go",
		from:      "if in.resuming() && try[0] == in.hostAddr {",
		to:        "if false {",
		test:      "-run TestOtherAddressesWait ./conmgr",
	},
	{
		name:      "conmgr/resume-from-the-same-address",
		invariant: "before its deadline a connection is resumed from the same address of this host",
		file:      "conmgr/watch/instance.go",
		from:      "if in.resuming() && to == in.hostAddr {",
		to:        "if false {",
		test:      "-run TestResumesFromTheSameAddress ./conmgr",
	},
	{
		name:      "conmgr/half-answer",
		invariant: "half an answer of the name service takes no address away",
		file:      "conmgr/watch/lookup.go",
		from:      "if errors.As(r.err, &half) {",
		to:        "if errors.As(r.err, &half) && false {",
		test:      "-run TestHalfAnswer ./conmgr/watch",
	},
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
}
