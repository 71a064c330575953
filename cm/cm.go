// Package cm is what the Connection Manager and those who talk to it agree on: the names in its
// answers (docs/protocol.md, part 2), and those of the files in its directory. The daemon, cm_ctl
// and the Go client import it, and the libpq front's cm.h is generated from it (libpq/gen): one
// place for each name. Constants, but for Version; it imports nothing of this module.
package cm

// Version is that of conmgr and cm_ctl, and of conmgr's answers. The linker sets it to what
// scripts/version says; without make, as in a test, nobody does.
var Version = "dev"

// VersionParameter is the ParameterStatus by which a client knows a Connection Manager; its value
// is conmgr's Version.
const VersionParameter = "conmgr.version"

// LabelSetting is the server's setting by which a session says whose it is: a label, which is
// LabelLength hexadecimal digits.
const (
	LabelSetting = "conmgr.client"
	LabelLength  = 32
)

// MaxInstanceNumber is the highest number of an instance.
const MaxInstanceNumber = 9999
