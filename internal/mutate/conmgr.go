package main

// Mutations of who a client of conmgr is.

var conmgrMutations = []mutation{
	{
		name:      "conmgr/bound-client-counts",
		invariant: "a client whose socket is bound to an interface counts for its user",
		file:      "internal/sockowner/linux.go",
		from:      "range []uint32{0, loopbackIndex}",
		to:        "range []uint32{0}",
		test:      "-run TestShareOfBoundToAnInterface ./conmgr",
	},
	{
		name:      "conmgr/listener-holds-nothing",
		invariant: "a listener is not taken for the holder of a connection that has ended",
		file:      "internal/sockowner/linux.go",
		from:      "if err == nil && s.pair != p {",
		to:        "if false {",
		test:      "-run TestLookupGone ./internal/sockowner",
	},
	{
		name:      "conmgr/closed-is-nobodys",
		invariant: "a socket that its process has closed, which the kernel shows as root's, does not count for root",
		file:      "internal/sockowner/linux.go",
		from:      "case err == nil && s.inode != 0:",
		to:        "case err == nil:",
		test:      "-run TestLookupGone ./internal/sockowner",
	},
}
