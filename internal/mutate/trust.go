package main

// Mutations of the libpq front: whom it believes.

var trustMutations = []mutation{
	{
		name:      "front/owner-before-asking",
		invariant: "nothing is asked of a Connection Manager before its user is known to be trusted",
		file:      "libpq/stage2.c",
		from:      "if (!f->link->trusted && !conmgr_is_trusted(f, &why))",
		to:        "if (!f->link->trusted && !conmgr_is_trusted(f, &why) && f->attempt < 0)",
		test:      "-run TestImpostorOfAnotherUser ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/closed-is-nobodys",
		invariant: "a peer that has closed its end is nobody's, not root's",
		file:      "libpq/owner.c",
		from:      "owner->state = m->idiag_state == TCP_ESTABLISHED && m->idiag_inode ?",
		to:        "owner->state = m->idiag_state >= TCP_ESTABLISHED ?",
		test:      "-run TestOwnersByState ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/no-directory",
		invariant: "an answer's host is never the directory of a socket",
		file:      "libpq/trust.c",
		from:      "else if (*t->host == '/' || *t->host == '@')",
		to:        "else if (*t->host == '/' && *t->host == '@')",
		test:      "-run TestUnsoundAnswers ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/root-certificate",
		invariant: "sslmode=require with a root certificate verifies, and demands a conmgr that is known",
		file:      "libpq/trust.c",
		from:      "return !strcmp(mode, \"require\") && has_root_certificate(f)",
		to:        "return !strcmp(mode, \"require\") && f->attempt < 0 && has_root_certificate(f)",
		test:      "-run TestUnknownOwner ./libpq/test",
		build:     "front",
	},
}
