package main

// Mutations of draining on the client host.

const drainTests = "-run TestDraining ./conmgr/route"

var drainMutations = []mutation{
	{
		name:      "drain/not-offered",
		invariant: "an instance that is draining is offered to nobody new",
		file:      "conmgr/route/drain.go",
		from:      " && t.Draining(index) == \"\"",
		to:        "",
		test:      drainTests,
	},
	{
		name:      "drain/by-its-server",
		invariant: "a server that says so is draining",
		file:      "conmgr/route/drain.go",
		from:      "in.Told && in.Attributes.Has(heartbeat.Draining)",
		to:        "in.Told && false && in.Attributes.Has(heartbeat.Draining)",
		test:      drainTests,
	},
	{
		name:      "drain/stays-the-primary",
		invariant: "a primary that is draining is the primary in use for all other rules",
		file:      "conmgr/route/table.go",
		from:      "if v.Why == \"\" && all[i].isPrimary() && t.Primary < 0 {",
		to:        "if t.Verdicts[i] = v; v.Why == \"\" && t.Draining(i) == \"\" && all[i].isPrimary() && t.Primary < 0 {",
		test:      drainTests,
	},
	{
		name:      "drain/reason",
		invariant: "SHOW INSTANCES says why an instance that is draining is not used",
		file:      "conmgr/route/table.go",
		from:      "cmp.Or(t.Verdicts[index].Why, t.whyDraining(index))",
		to:        "cmp.Or(t.Verdicts[index].Why)",
		test:      "-run TestReasons ./conmgr/route",
	},
	{
		name:      "drain/told-once",
		invariant: "a drain is told when it begins and when it ends, by whomever it is ordered",
		file:      "conmgr/bind/drain.go",
		from:      "if (was == \"\") == (is == \"\") {",
		to:        "if was == is {",
		test:      "-run TestDrain$ ./conmgr/bind",
	},
	{
		name:      "drain/kept",
		invariant: "what is drained on this host is drained after a restart of conmgr, too",
		file:      "conmgr/bind/board.go",
		from:      "	k.drained(entries)\n",
		to:        "",
		test:      "-run TestDrainIsKept ./conmgr/bind",
	},
	{
		name:      "drain/written",
		invariant: "who is told that an instance is draining finds it so after a restart of conmgr",
		file:      "conmgr/bind/drain.go",
		from:      "return true, b.keeper.saveDrained(func() []Entry { return b.Table.Load().Entries })",
		to:        "return true, nil",
		test:      "-run TestDrainStatement ./conmgr",
	},
	{
		name:      "drain/follows-its-entry",
		invariant: "conmgr.conf may be renumbered: a drain is of a host and port",
		file:      "conmgr/bind/drain.go",
		from:      "c.Name() == d.Host && c.Port == d.Port && (found < 0 || c.Number == d.Number)",
		to:        "c.Number == d.Number",
		test:      "-run TestDrainIsKept ./conmgr/bind",
	},
	{
		name:      "drain/damaged",
		invariant: "by a conmgr.drain that is damaged nothing is drained",
		file:      "control/drainfile.go",
		from:      "	if err != nil {\n		return nil, &DamagedError{path, err}",
		to:        "	if err != nil {\n		return all, &DamagedError{path, err}",
		test:      "-run TestDrainFile ./control",
	},
	{
		name:      "drain/waits",
		invariant: "cm_ctl drain --wait returns when nobody is bound any more",
		file:      "control/drain.go",
		from:      "	for left > 0 {",
		to:        "	for left > 1 {",
		test:      "-run TestDrainAndUndrain ./control",
	},
	{
		name:      "drain/wait-is-undone",
		invariant: "cm_ctl drain --wait ends when somebody undrains the instance",
		file:      "control/drain.go",
		from:      "left == nil || !strings.Contains(f.shown(cm.ColDraining), cm.DrainHere)",
		to:        "left == nil",
		test:      "-timeout 30s -run TestDrainIsUndone ./control",
	},
	{
		name:      "drain/wait-is-asked-for",
		invariant: "cm_ctl drain waits only if it is told to",
		file:      "control/drain.go",
		from:      "left == 0 || !r.waits || r.action != \"drain\"",
		to:        "left == 0 || r.action != \"drain\"",
		test:      "-timeout 30s -run TestDrainAndUndrain ./control",
	},
}
