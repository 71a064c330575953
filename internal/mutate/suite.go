package main

// Mutations of the runner of all tests: what fails must not pass for what does not.

var suiteMutations = []mutation{
	{
		name:      "suite/no-result",
		invariant: "a test that was listed and has not said how it ended has failed",
		file:      "internal/suite/report.go",
		from:      "		case \"\":\n			bad = append(bad, t+\" (no result)\")\n",
		to:        "",
		test:      "-run TestJudge ./internal/suite",
	},
	{
		name:      "suite/killed",
		invariant: "a process that ends badly is a failure, whatever its tests have said",
		file:      "internal/suite/report.go",
		from:      "case len(bad) > 0 || err != nil:",
		to:        "case len(bad) > 0:",
		test:      "-run TestJudge ./internal/suite",
	},
	{
		name:      "suite/parts",
		invariant: "the end of a part is not that of its test",
		file:      "internal/suite/report.go",
		from:      "			continue // of a part\n",
		to:        "",
		test:      "-run TestJudge ./internal/suite",
	},
	{
		name:      "suite/every-test",
		invariant: "each test that a program lists is in one process",
		file:      "internal/suite/plan.go",
		from:      "k := i; k < len(names); k += n",
		to:        "k := i; k < len(names)-1; k += n",
		test:      "-run TestShares ./internal/suite",
	},
	{
		name:      "suite/beside",
		invariant: "what runs beside the tests counts",
		file:      "internal/suite/report.go",
		from:      "		r.fail(command, \"\", out+err.Error()+\"\\n\")\n",
		to:        "",
		test:      "-run TestOther ./internal/suite",
	},
}
