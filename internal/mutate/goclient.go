package main

// Mutations of the Go client.

var goclientMutations = []mutation{
	{
		name:      "goclient/pgx-told-to-repeat",
		invariant: "with pgx, a statement that was sent on a connection that breaks is not called safe to retry",
		file:      "driver/pgxcm/conn.go",
		from:      "\treturn n, c.broken.tell(err)\n",
		to:        "\treturn n, err\n",
		test:      "-run TestLossOfWhatIsUnderWay ./driver/pgxcm",
		build:     "all",
	},
	{
		name:      "goclient/closed-socket-has-an-owner",
		invariant: "a peer that has closed its socket, which the kernel shows as root's, is not taken for root",
		file:      "internal/sockowner/sockowner.go",
		from:      "case s.state != established || s.inode == 0:",
		to:        "case false:",
		test:      "-run TestNotAccepted ./internal/sockowner",
	},
	{
		name:      "goclient/reset-is-unknown",
		invariant: "a peer that has answered and reset the connection is gone, and not of another namespace",
		file:      "internal/sockowner/linux.go",
		from:      "if ownState(c) != established {",
		to:        "if false {",
		test:      "-run TestGone ./internal/sockowner",
	},
}
