package main

// Mutations of the libpq front: who is tried, what a lost connection gives, and that it fits any
// libpq.

var frontMutations = []mutation{
	{
		name:      "front/every-function",
		invariant: "the front exports every function of every libpq, whichever it was built with",
		file:      "libpq/gen/main.go",
		from:      "} else if f.class != \"own\" {",
		to:        "} else if f.class != \"own\" && f.since <= 15 {",
		test:      "-run TestExportsAreThoseOfEveryLibpq ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/lost-is-reset",
		invariant: "a connection that was lost while idle gives, call by call, what one gives that was reset",
		file:      "libpq/loss.c",
		from:      "watch_glance(f->watch, f->asked);",
		to:        "real.PQconsumeInput(watch_glance(f->watch, f->asked) ? f->sql : NULL);",
		test:      "-run TestLossWhileIdleIsAReset/idle/PQsendQ ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/refusal-ends",
		invariant: "a refusal of the user is had at one instance, once",
		file:      "libpq/stage2.c",
		from:      "return tried_goes_on(f) ||",
		to:        "return f->phase == PH_STAGE2 || tried_goes_on(f) ||",
		test:      "-run TestRefusalOfTheUserEndsTheAttempt ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/no-room-goes-on",
		invariant: "an instance without room is passed over",
		file:      "libpq/stage2.c",
		from:      "!strncmp(sqlstate, \"53\", 2) ||",
		to:        "!strncmp(sqlstate, \"none\", 2) ||",
		test:      "-run TestInstanceWithoutRoomIsPassedOver ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/closed-goes-on",
		invariant: "a host that closes without a word is passed over",
		file:      "libpq/tried.c",
		from:      "return tried_moved(f) || f->tried.closed;",
		to:        "return tried_moved(f);",
		test:      "-run TestConmgrWithoutRoomIsPassedOver ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/excepted",
		invariant: "an instance that refused is not taken again, whatever conmgr answers",
		file:      "libpq/stage2.c",
		from:      "if (excepted(f, t->instance))",
		to:        "if (excepted(f, t->instance) && f->attempt < 0)",
		test:      "-run TestExceptedInstanceIsNotTaken ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/shows-what-was-tried",
		invariant: "a handle that could not be connected shows what was tried, as libpq's",
		file:      "libpq/tried.c",
		from:      "if (!f->blank && !tried_moved(f) &&",
		to:        "if (!f->blank && f->magic &&",
		test:      "-run TestFailedHandleShowsWhatWasTried ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/empty-target",
		invariant: "an empty target_session_attrs is refused as libpq refuses it, and not taken for any",
		file:      "libpq/options.c",
		from:      "if (name)\n\t{\n\t\to->odd_target",
		to:        "if (name && *name)\n\t{\n\t\to->odd_target",
		test:      "-run TestErrorsOfPlainConnectionsAreLibpqs ./libpq/test",
		build:     "front",
	},
}
