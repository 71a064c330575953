package main

// Mutations of the relay ports and of destroy_sockets.

var relayMutations = []mutation{
	{
		name:      "relay/turns",
		invariant: "a direction with much to carry lets the others have their turn",
		file:      "conmgr/relay/relayloop.go",
		from:      "\tfor range relayRounds {",
		to:        "\tfor range 1000 * relayRounds {",
		test:      "-run TestRelayTurns ./conmgr/relay",
	},
	{
		name:      "relay/client-leaves",
		invariant: "a client that leaves while a mute instance is waited for is not counted any more",
		file:      "conmgr/relay/relaywatch.go",
		from:      "\t\tif end != clientOpen {\n\t\t\tonEnd()",
		to:        "\t\tif end != clientOpen && half {\n\t\t\tonEnd()",
		test:      "-timeout 15s -run TestRelayClientLeavesMuteInstance|TestRelayClientLeavesFullInstance ./conmgr",
	},
	{
		name:      "relay/cancel-given-up",
		invariant: "a cancel request that was given up on is not delivered later",
		file:      "conmgr/relay/relaycancel.go",
		from:      "\tdefer c.watch(true, stop)()",
		to:        "\tdefer c.watch(true, func() {})()",
		test:      "-timeout 15s -run TestRelayClientLeavesFullInstance|TestRelayCancelHalfClose ./conmgr",
	},
	{
		name:      "relay/half-close-waits",
		invariant: "a client that has ended its direction only waits for the end of its cancel request",
		file:      "conmgr/relay/relaycancel.go",
		from:      "\tdefer c.watch(true, stop)()",
		to:        "\tdefer c.watch(false, stop)()",
		test:      "-run TestRelayCancelHalfClose ./conmgr",
	},
	{
		name:      "relay/hung-session",
		invariant: "a session of a client that has left ends, though its instance hangs",
		file:      "conmgr/relay/relaywatch.go",
		from:      "\tcase gone && known && !f.client.blocked(), !known && !f.heard:",
		to:        "\tcase gone && !known:",
		test:      "-timeout 15s -run TestRelayClientLeavesHungSession ./conmgr",
	},
	{
		name:      "relay/own-host-only",
		invariant: "a relay port takes clients of this host, and those that are named",
		file:      "conmgr/listen/admission.go",
		from:      "if peer.IsLoopback() || of.Owner.Known {",
		to:        "if peer.IsLoopback() || !of.Owner.Known {",
		test:      "-run TestRelayFromElsewhere ./conmgr/listen",
	},
	{
		name:      "relay/superseded-is-reset",
		invariant: "what is relayed to a superseded primary is reset",
		file:      "conmgr/relay/relayloop.go",
		from:      "l.drop(&f.client, true)",
		to:        "l.drop(&f.client, false)",
		test:      "-run TestSupersededRelayedIsReset ./conmgr",
	},
	{
		name:      "relay/superseded-is-destroyed",
		invariant: "destroy_sockets applies to a superseded primary",
		file:      "conmgr/bind/board.go",
		from:      "e.lostText(\"superseded by \"+v.By), v.Superseded)",
		to:        "e.lostText(\"superseded by \"+v.By), false)",
		test:      "-run TestSupersededIsDestroyed ./conmgr/bind",
	},
	{
		name:      "relay/file-capabilities",
		invariant: "a program with capabilities that everybody may run destroys no sockets",
		file:      "conmgr/sockdestroy/destroy.go",
		from:      "\t\tst.Mode&unix.S_IXOTH == 0 {",
		to:        "\t\tst.Mode != 0 {",
		test:      "-run TestFileCapabilities ./conmgr",
		build:     "build/conmgr",
	},
}
