package cm

// The files of a conmgr directory, and the Unix sockets.

import (
	"fmt"
	"path/filepath"
)

// Files in the directory of a conmgr.
const (
	ConfigFile   = "conmgr.conf"
	PidFile      = "conmgr.pid"
	StateFile    = "conmgr.state"
	IdentityFile = "conmgr.identity"
	DrainFile    = "conmgr.drain"
)

// HandoverOption is what `conmgr --check` takes besides if the program can take over from a conmgr
// that runs: what is handed over is of that version.
const HandoverOption = "--handover=1"

// MaxSocketPath is what fits into sun_path of sockaddr_un, with its zero byte.
const MaxSocketPath = 107

// SocketPath is the Unix socket that a client with host=dir and that port looks for.
func SocketPath(dir string, port int) string {
	return filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port))
}
