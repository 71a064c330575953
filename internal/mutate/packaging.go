package main

// Mutations of what systemd and packages are told.

var packagingMutations = []mutation{
	{
		name:      "packaging/systemd-is-told-at-once",
		invariant: "systemd is told by a process that stood still until its time was over, too",
		file:      "internal/rawsys/within.go",
		from:      "rest := SendNow(conn, p)",
		to:        "rest := p",
		test:      "-run TestSystemdIsTold ./conmgr/status",
	},
	{
		name:      "packaging/hung-table",
		invariant: "systemd is not told that conmgr is alive while its routing table hangs",
		file:      "conmgr/bind/board.go",
		from:      "case b.pings <- struct{}{}:",
		to:        "default:",
		test:      "-run TestPing ./conmgr/bind",
	},
	{
		name:      "packaging/another-process",
		invariant: "the child of a service is not asked for signs of life",
		file:      "conmgr/status/systemd.go",
		from:      `pid != "" && pid != strconv.Itoa(os.Getpid())`,
		to:        `pid == "none"`,
		test:      "-run TestSystemdsWatchdog ./conmgr/status",
	},
}
