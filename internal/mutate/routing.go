package main

// Mutations of who is offered, who is superseded, and what is remembered.

const (
	routeTests = "-run TestChoose|TestVoid|TestStandbyGrace|TestFirstContact|TestSuccession|TestForget|TestHolder ./conmgr/route"
	bindTests  = "-run TestBindReadsTheTable ./conmgr/bind"
	newsTests  = "-run TestTableComes|TestSuperseded|TestSuccessionIsTold ./conmgr"
	keptTests  = "-run TestKept|TestDamagedFile|TestStateCannot|TestForget ./conmgr"
	stateTests = "-run TestStateFile|TestDamagedState|TestUnusable|TestForget ./control"
)

var routingMutations = []mutation{
	{
		name:      "routing/older-timeline",
		invariant: "a primary of an older timeline is offered for nothing, whatever becomes of the newer one",
		file:      "conmgr/route/table.go",
		from:      "case in.Attributes.Timeline < k.Timeline:",
		to:        "case false:",
		test:      routeTests,
	},
	{
		name:      "routing/rival",
		invariant: "of two promotions to one timeline the holder stays",
		file:      "conmgr/route/table.go",
		from:      "case k.Held && !t.holds(in):",
		to:        "case false:",
		test:      routeTests,
	},
	{
		name:      "routing/holder-restarted",
		invariant: "a restarted primary keeps its timeline",
		file:      "conmgr/route/known.go",
		from:      "	return entry\n",
		to:        "	return nil\n",
		test:      routeTests,
	},
	{
		name:      "routing/other-cluster",
		invariant: "timelines compare within one database cluster",
		file:      "conmgr/route/known.go",
		from:      "in.heard() && in.SystemIdentifier == k.SystemIdentifier && in.isPrimary() == primary",
		to:        "in.heard() && in.isPrimary() == primary",
		test:      routeTests,
	},
	{
		name:      "routing/first-contact",
		invariant: "not who answers first decides which database cluster the set is",
		file:      "conmgr/route/known.go",
		from:      "if !settled && !allTold(all) {",
		to:        "if false {",
		test:      routeTests,
	},
	{
		name:      "routing/first-contact-tie",
		invariant: "at a first start most servers decide which database cluster the set is, and then the order",
		file:      "conmgr/route/known.go",
		from:      "best != 0 && votes[a] <= votes[best]",
		to:        "best != 0 && votes[a] < votes[best]",
		test:      routeTests,
	},
	{
		name:      "routing/succession-timeline",
		invariant: "a succession takes the place of nothing that was promoted since",
		file:      "conmgr/route/known.go",
		from:      "s.Timeline < k.Timeline {",
		to:        "false {",
		test:      routeTests,
	},
	{
		name:      "routing/succession-once",
		invariant: "a succession comes into force once",
		file:      "conmgr/route/known.go",
		from:      "if !slices.Contains(k.Takeovers, Takeover{k.SystemIdentifier, in.SystemIdentifier, s.Timeline}) {",
		to:        "if true {",
		test:      routeTests,
	},
	{
		name:      "routing/standby-grace",
		invariant: "a standby that does not follow is offered for a time only",
		file:      "conmgr/route/table.go",
		from:      "now.Before(end)",
		to:        "true",
		test:      routeTests,
	},
	{
		name:      "routing/bind-under-lock",
		invariant: "no loss is missed at binding: the table is read under the registry's lock",
		file:      "conmgr/bind/waiting.go",
		from:      "	r.mu.Lock()\n	defer r.mu.Unlock()\n	t := load()\n",
		to:        "	t := load()\n	r.mu.Lock()\n	defer r.mu.Unlock()\n",
		test:      bindTests,
	},
	{
		name:      "routing/table-first",
		invariant: "the new table is published before anybody is told of a loss",
		file:      "conmgr/bind/board.go",
		from:      "	b.Table.Store(t)\n	var told []Member\n",
		to:        "	defer b.Table.Store(t)\n	var told []Member\n",
		test:      newsTests,
	},
	{
		name:      "routing/superseded-told",
		invariant: "what is bound to a superseded primary is told at once",
		file:      "conmgr/bind/board.go",
		from:      "told = append(told, b.superseded(t, i)...)",
		to:        "_ = b.superseded",
		test:      newsTests,
	},
	{
		name:      "routing/kept",
		invariant: "what is known outlives conmgr",
		file:      "conmgr/bind/kept.go",
		from:      "known := knownOf(s)",
		to:        "known := knownOf(s)\n\tknown = route.Known{}",
		test:      keptTests,
	},
	{
		name:      "routing/kept-first",
		invariant: "a new timeline is on disk before an instance is offered by it",
		file:      "conmgr/bind/board.go",
		from:      "if loss || known.SystemIdentifier == before.SystemIdentifier",
		to:        "if true || known.SystemIdentifier == before.SystemIdentifier",
		test:      "-run TestLossDoesNotWaitForDisk ./conmgr/bind",
	},
	{
		name:      "routing/loss-before-disk",
		invariant: "a loss is told though the disk stands still",
		file:      "conmgr/bind/board.go",
		from:      "if b.hasLoss() {",
		to:        "if false {",
		test:      "-run TestLossDoesNotWaitForDisk ./conmgr/bind",
	},
	{
		name:      "routing/loss-after-disk",
		invariant: "what came while a table waited for the disk is not forgotten",
		file:      "conmgr/bind/board.go",
		from:      "\tdefer b.rouse() //",
		to:        "\t//",
		test:      "-run TestLossDoesNotWaitForDisk ./conmgr/bind",
	},
	{
		name:      "routing/killed-writer",
		invariant: "what conmgr has written outlives it, if it is killed before the disk has it",
		file:      "control/statefile.go",
		from:      "err == nil && s.SystemIdentifier != 0",
		to:        "err == nil && false && s.SystemIdentifier != 0",
		test:      "-run TestStateOfAKilledWriter ./control",
	},
	{
		name:      "routing/forget-permission",
		invariant: "only root and conmgr's own user may have it forget or drain",
		file:      "conmgr/console/forgetting.go",
		from:      "if err == nil && s.service.mayForget(uid) {",
		to:        "if true {",
		test:      keptTests,
	},
	{
		name:      "routing/state-checksum",
		invariant: "a damaged conmgr.state is never believed",
		file:      "control/statefile.go",
		from:      "if string(b) != string(withChecksum(text)) {",
		to:        "if false {",
		test:      stateTests,
	},
}
