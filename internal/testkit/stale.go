package testkit

// Temporary directories that name the process which made them, so that a later run removes what a
// killed one has left.

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// TempDir makes an own directory <temp>/<prefix>-<pid>-<random>, mode 0755 so that an unprivileged
// server user can enter it. Those of dead processes of the same user are removed. The name is
// short: paths of Unix sockets have 107 bytes.
func TempDir(prefix string) (string, error) {
	removeStale(os.TempDir(), prefix)
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s-%d-", prefix, os.Getpid()))
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

func removeStale(parent, prefix string) {
	found, _ := filepath.Glob(filepath.Join(parent, prefix+"-*-*"))
	for _, dir := range found {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix+"-"), "-")
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
			continue
		}
		if !OwnerIsDead(pid) {
			continue
		}
		os.RemoveAll(dir)
	}
}

// OwnerIsDead tells whether pid, the decimal text out of the name of a temporary object, is a
// number that belongs to no process.
func OwnerIsDead(pid string) bool {
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 1 {
		return false
	}
	return syscall.Kill(n, 0) == syscall.ESRCH
}
