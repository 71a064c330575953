package main

// Mutations of the heartbeat's pure core.

var heartbeatMutations = []mutation{
	{
		name:      "heartbeat/deadline-rearmed",
		invariant: "each reception re-arms the deadline",
		file:      "heartbeat/monitor.go",
		from:      "\t\tm.pulse.Received(now)\n\t\tchanged = b.Attributes != m.attributes",
		to:        "\t\tchanged = b.Attributes != m.attributes",
		test:      "-run TestMonitor ./heartbeat",
	},
}
