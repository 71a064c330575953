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
}
