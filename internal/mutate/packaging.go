package main

// Mutations of what systemd, syslog and packages are told.

var packagingMutations = []mutation{
	{
		name:      "packaging/systemd-is-told-at-once",
		invariant: "systemd is told by a process that stood still until its time was over, too",
		file:      "internal/rawsys/within.go",
		from:      "rest, err := sendNow(conn, p)",
		to:        "rest, err := p, error(nil)",
		test:      "-run TestSystemdIsTold ./conmgr/status",
	},
	{
		name:      "packaging/syslog-is-restarted",
		invariant: "a process that stood still finds the syslog daemon that has taken the place of another one",
		file:      "internal/rawsys/within.go",
		from:      "if err != nil || len(rest) == 0 {",
		to:        "if len(rest) == 0 {",
		test:      "-run TestSyslog ./conmgr/cmlog",
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
