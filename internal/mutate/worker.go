package main

// Mutations of the watchdog worker: what it reads, and when, before anybody is judged.

var workerMutations = []mutation{
	{
		name:      "worker/stop-before-verdicts",
		invariant: "a worker that has to stop judges nobody",
		file:      "worker/reactor.go",
		from:      "\tr.caughtUp = true\n\treturn r.host.Stop() == Run",
		to:        "\tr.caughtUp = true\n\treturn true",
		test:      "-run TestStopIsSeenBeforeVerdicts ./worker",
	},
	{
		name:      "worker/catches-up",
		invariant: "what the kernel holds is read before anybody is judged",
		file:      "worker/reactor.go",
		from:      "\t\t\tif !r.catchUp(now) {",
		to:        "\t\t\tif r.caughtUp = true; false {",
		test:      "-run TestOthersAreRead ./worker",
	},
	{
		name:      "worker/held",
		invariant: "a timer that fires late is told",
		file:      "worker/reactor.go",
		from:      "r.step(now, watchdog.Event{Kind: watchdog.Held, Late: late})",
		to:        "",
		test:      "-run TestPausedProcess ./worker",
	},
	{
		name:      "worker/stale-event",
		invariant: "an event of a descriptor that was closed in the same turn is for nobody",
		file:      "worker/reactor.go",
		from:      "if c == nil || r.serials[ev.Fd] != ev.Pad {",
		to:        "if c == nil {",
		test:      "-run TestStaleEvent ./worker",
	},
	{
		name:      "worker/whole-frames",
		invariant: "nothing is sent into the middle of a frame",
		file:      "worker/conn.go",
		from:      "if len(c.out) > 0 { // not into the middle of a frame",
		to:        "if false {",
		test:      "-run TestNothingIsSent ./worker",
	},
	{
		name:      "worker/fin",
		invariant: "a FIN is told from a reset",
		file:      "worker/conn.go",
		from:      `watchdog.Finished, "the connection was closed"`,
		to:        `watchdog.Reset, "the connection was closed"`,
		test:      "-run TestCloseAndReset ./worker",
	},
	{
		name:      "worker/reset",
		invariant: "a reset is told from a FIN",
		file:      "worker/conn.go",
		from:      "how = watchdog.Reset",
		to:        "how = watchdog.Finished",
		test:      "-run TestCloseAndReset ./worker",
	},
}
