package main

// Mutations of cm_ctl.

var controlMutations = []mutation{
	{
		name:      "control/sessions-counted",
		invariant: "cm_ctl stop says how many sessions the servers end",
		file:      "control/sessions.go",
		from:      "\tif n == 0 {",
		to:        "\tif n >= 0 {",
		test:      "-run TestStopTellsOfSessions ./control",
	},
	{
		name:      "control/width",
		invariant: "cm_ctl status fits the terminal",
		file:      "control/people.go",
		from:      "room := max(width-utf8.RuneCountInString(prefix), 8)",
		to:        "room := max(2*width-utf8.RuneCountInString(prefix), 8)",
		test:      "-run TestListFitsTheWidth|TestLongWords ./control",
	},
	{
		name:      "control/check",
		invariant: "cm_ctl status --check looks at the state of the heartbeats",
		file:      "control/check.go",
		from:      "if f.shown(cm.ColState) != \"established\" {",
		to:        "if f.shown(cm.ColState) == \"\" {",
		test:      "-run TestCheck ./control",
	},
	{
		name:      "control/check-used-primary",
		invariant: "of two primaries --check=primary asks for the one that is used",
		file:      "control/check.go",
		from:      "(!tells || f.text(cm.ColUsedFor) != nil)",
		to:        "(tells || f.text(cm.ColUsedFor) != nil)",
		test:      "-run TestCheck ./control",
	},
	{
		name:      "control/json-role",
		invariant: "a lost instance has role unknown in --json, and its last role apart",
		file:      "control/status.go",
		from:      "LastRole: f.text(cm.ColLastRole)",
		to:        "LastRole: f.text(cm.ColRole)",
		test:      "-run TestStatusJSON ./control",
	},
	{
		name:      "control/json-all",
		invariant: "--json has all that the table has",
		file:      "control/status.go",
		from:      "Via: f.text(cm.ColVia)}",
		to:        "Via: nil}",
		test:      "-run TestStatusJSON ./control",
	},
	{
		name:      "control/answer-is-lost",
		invariant: "an answer that could not be written is no success",
		file:      "control/command.go",
		from:      "asked && code == exitOK && *c.unsaid != nil",
		to:        "asked && code == exitInterrupted && *c.unsaid != nil",
		test:      "-run TestAnswerIsLost ./control",
	},
}
