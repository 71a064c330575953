package worker

// The key file of a worker that has just started.

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// TestKeysAreReadAgain: a file that is not there at the start is read again every second, until it
// is. The log is told of that once; and the time without keys is as one without a worker.
func TestKeysAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	l := startWith(t, 4, &Access{Serial: 2, Authentication: watchdog.Require, KeyFile: path}).listening()
	const complaint = "could not load the keys of conmgr processes"
	again := func() {
		t.Helper()
		before := l.spawns.Load()
		l.pass(keyRetry)
		testkit.Eventually(t, patience, "it is read again", func() (bool, string) { return l.spawns.Load() > before, l.host.log() })
	}
	again()
	again()
	if n := l.host.count(complaint); n != 1 || l.store.Alive() != 0 {
		t.Errorf("told %d times, alive at %v; the log:\n%s", n, l.store.Alive(), l.host.log())
	}
	replace := func(text string) { // at once: an empty file is one without keys, and not read again
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	replace("a b\n")
	l.pass(keyRetry)                // on a busy machine it may have been read already, as time passes there too
	l.logged("the secret of keyid") // another reason is told
	id, err := proof.ParseKeyID("client1")
	if err != nil {
		t.Fatal(err)
	}
	replace(proof.Line(id, proof.Secret{1}) + "\n")
	l.pass(keyRetry)
	l.logged("keys of conmgr processes are in force: 1")
	testkit.Eventually(t, patience, "the worker lives", func() (bool, string) {
		l.host.wake()
		return l.store.Alive() != 0, ""
	})

	// From then on it is read when that is asked for.
	read := l.spawns.Load()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	answers := l.host.alive.Load()
	l.pass(time.Minute)
	testkit.Eventually(t, patience, "a turn", func() (bool, string) { return l.host.alive.Load() > answers, "" })
	l.host.access.Store(&Access{Serial: 4, Authentication: watchdog.Require, KeyFile: path})
	l.host.wake()
	l.logged(fmt.Sprintf("%s: could not open key file %q: no such file or directory|The keys of before stay in force: 1.", complaint, path))
	if n := l.spawns.Load(); n != read+1 {
		t.Errorf("it was read %d times", n-read)
	}
}
