package pgtest

// What tests of the whole need beyond an ordinary cluster.

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// SourceRoot is the project's directory.
func SourceRoot() (string, error) { return sourceRoot() }

// Major is the server's major version.
func (c *Cluster) Major() int { return major(c.Version) }

// Host is the host that the server runs in, nil on loopback.
func (c *Cluster) Host() *testnet.Host { return c.host }

// OpenAt is Open with a whole connection string.
func (c *Cluster) OpenAt(from *testnet.Host, dsn string) *sql.DB {
	c.t.Helper()
	return c.open(from, dsn)
}

// Faults replaces the heartbeat library by the one that obeys requests for faults (make faults).
func Faults() Option { return library("faults/watchdog_go.so") }

// TestModule installs the module of test/module beside the extension.
func TestModule() Option { return library("test/watchdog_test.so") }

// NoChain loads test/module/watchdog_nochain.c after watchdog.
func NoChain() Option {
	return func(s *settings) {
		library("test/watchdog_nochain.so")(s)
		Set("shared_preload_libraries", "watchdog, watchdog_nochain")(s)
	}
}

// Release takes the PostgreSQL of another pg_config, and the extension that was built for it in
// another copy of the project.
func Release(pgConfig, root string) Option {
	return func(s *settings) { s.from = source{pgConfig, root} }
}

// BuiltIn replaces the extension's libraries by those of another build directory. Servers that run
// already keep theirs.
func BuiltIn(dir string) Option {
	return func(s *settings) {
		s.libraries = append(s.libraries, filepath.Join(dir, "watchdog.so"), filepath.Join(dir, "watchdog_go.so"))
	}
}

func library(file string) Option {
	return func(s *settings) { s.libraries = append(s.libraries, file) }
}

const clockLibrary = "shiftclock.so"

// ShiftedClock runs the server with test/module/shiftclock.c: see ShiftClock.
func ShiftedClock() Option {
	return func(s *settings) {
		library("test/" + clockLibrary)(s)
		s.clock = true
	}
}

func (c *Cluster) clockPath() string { return filepath.Join(c.dir, "clock") }

// ShiftClock sets the wall clock of the server, which runs with ShiftedClock, so much before or
// behind the machine's, as somebody may at any time.
func (c *Cluster) ShiftClock(by time.Duration) {
	c.t.Helper()
	f, err := os.OpenFile(c.clockPath(), os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(by)), 0) // in one piece, for who has it mapped
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		c.t.Fatalf("%v", err)
	}
}

// Damaged cuts the heartbeat library off, as a full disk or an interrupted copy does.
func Damaged() Option { return func(s *settings) { s.damaged = true } }

// addLibraries copies files, of build/ unless their paths are absolute, into the private
// installation, over what is there, for all clusters that use it.
func (inst *installation) addLibraries(files []string) error {
	if len(files) == 0 {
		return nil
	}
	root, err := sourceRoot()
	for _, f := range files {
		to := filepath.Join(inst.pkglib, filepath.Base(f))
		os.Remove(to)
		from := f
		if !filepath.IsAbs(f) {
			from = filepath.Join(root, "build", f)
		}
		if err == nil {
			err = copyFile(from, to, 0o755)
		}
	}
	return err
}

// Sanitized replaces watchdog.so by one that ends its process at undefined behaviour.
func Sanitized() Option { return library("ubsan/watchdog.so") }

// Fresh makes a database cluster with a system identifier of its own: all others are copies of one.
func Fresh() Option { return func(s *settings) { s.fresh = true } }
