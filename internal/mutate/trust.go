package main

// Mutations of the libpq front: whom it believes.

var trustMutations = []mutation{
	{
		name:      "front/owner-before-asking",
		invariant: "nothing is believed of a Connection Manager before its user is known to be trusted",
		file:      "libpq/connect/stage2.c",
		from:      "	if (!trusted)\n",
		to:        "	trusted = trusted || c->attempt >= 0;\n	if (!trusted)\n",
		test:      "-run TestImpostorOfAnotherUser ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/closed-is-nobodys",
		invariant: "a peer that has closed its end is nobody's, not root's",
		file:      "libpq/wire/owner.c",
		from:      "owner->state = m->idiag_state == TCP_ESTABLISHED && m->idiag_inode ?",
		to:        "owner->state = m->idiag_state >= TCP_ESTABLISHED ?",
		test:      "-run TestOwnersByState ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/no-directory",
		invariant: "an answer's host is never the directory of a socket",
		file:      "libpq/wire/trust.c",
		from:      "else if (*t->host == '/' || *t->host == '@')",
		to:        "else if (*t->host == '/' && *t->host == '@')",
		test:      "-run TestUnsoundAnswers ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/root-certificate",
		invariant: "sslmode=require with a root certificate verifies, and demands a conmgr that is known",
		file:      "libpq/connect/options.c",
		from:      "return !strcmp(mode, \"require\") && has_root_certificate(o)",
		to:        "return !strcmp(mode, \"require\") && o->nhosts < 0 && has_root_certificate(o)",
		test:      "-run TestUnknownOwner ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/pgcmuser",
		invariant: "PGCMUSER names who may run a conmgr beside root, the user conmgr and oneself",
		file:      "libpq/wire/trust.c",
		from:      "\t\tif (is_user(element, len, uid))\n\t\t\treturn true;",
		to:        "\t\tif (is_user(element, len, uid) && uid == 0)\n\t\t\treturn true;",
		test:      "-run TestPGCMUSER$ ./libpq/test",
		build:     "front",
	},
	{
		name:      "front/pgcmuser-privileged",
		invariant: "a program with somebody else's privileges does not heed PGCMUSER",
		file:      "libpq/wire/trust.c",
		from:      "secure_getenv",
		to:        "getenv",
		test:      "-run TestPGCMUSERIsIgnoredWithPrivilege ./libpq/test",
		build:     "front",
	},
}
