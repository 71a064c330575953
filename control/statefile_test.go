package control

// Tests of conmgr.state: what is written is read, and whatever else is there is never taken for it.

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

var someState = State{SystemIdentifier: 7712353144152596028, Timeline: 2,
	Since:    time.Date(2026, 11, 26, 5, 49, 16, 363_000_000, time.UTC),
	Earlier:  []Step{{1, time.Date(2026, 11, 25, 4, 0, 0, 0, time.UTC)}},
	Instance: 1, Host: "db\"2 ", HostAddr: netip.MustParseAddr("10.0.0.2"), Port: 5432,
	PostmasterStart: 1764136155599123, Holds: true,
	Successions: []Succession{{7, 7712353144152596028, 4}}}

const someStateText = `# What conmgr has learned of its instances. "cm_ctl forget" is the way to change it.
version = 1
system_identifier = 7712353144152596028
timeline = 2
since = 2026-11-26T05:49:16.363Z
earlier = 1 2026-11-25T04:00:00Z
instance = 1
host = "db\"2 "
hostaddr = 10.0.0.2
port = 5432
postmaster_start = 1764136155599123
holds = true
succession = 7 7712353144152596028 4
checksum = `

func TestStateFile(t *testing.T) {
	dir := t.TempDir()
	if s, err := LoadState(dir); err != nil || !reflect.DeepEqual(s, State{}) {
		t.Errorf("without a file: %+v, %v", s, err)
	}
	noAddress := someState
	noAddress.HostAddr = netip.Addr{}
	for _, want := range []State{{}, {SystemIdentifier: 1<<64 - 1}, noAddress, someState} {
		if err := SaveState(dir, want, nil); err != nil {
			t.Fatal(err)
		}
		if s, err := LoadState(dir); err != nil || !reflect.DeepEqual(s, want) {
			t.Errorf("got %+v, %v, want %+v", s, err, want)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, cm.StateFile))
	if err != nil || !strings.HasPrefix(string(b), someStateText) {
		t.Errorf("%v\n%s", err, b)
	}
	if st, err := os.Stat(filepath.Join(dir, cm.StateFile)); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

// Who is killed before the disk has it, leaves the temporary file: whole, it is the newest.
func TestStateOfAKilledWriter(t *testing.T) {
	dir := t.TempDir()
	old, newer := State{SystemIdentifier: 7}, someState
	if err := SaveState(dir, old, nil); err != nil {
		t.Fatal(err)
	}
	var left []byte
	err := SaveState(dir, newer, func() {
		left, _ = os.ReadFile(filepath.Join(dir, cm.StateFile+".tmp"))
		if s, err := LoadState(dir); err != nil || !reflect.DeepEqual(s, newer) {
			t.Errorf("when it is written: %+v, %v", s, err)
		}
		if s, err := loadState(filepath.Join(dir, cm.StateFile)); err != nil || !reflect.DeepEqual(s, old) {
			t.Errorf("the file itself has it already: %+v, %v", s, err)
		}
	})
	if err != nil || left == nil {
		t.Fatalf("never written: %v", err)
	}
	if err := SaveState(dir, old, nil); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]State{len(left): newer, len(left) - 1: old, 0: old} {
		if err := os.WriteFile(filepath.Join(dir, cm.StateFile+".tmp"), left[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := LoadState(dir); err != nil || !reflect.DeepEqual(s, want) {
			t.Errorf("%d bytes are left: %+v, %v", n, s, err)
		}
	}
}

// Every damage of a byte, and every length but the whole, is noticed.
func TestDamagedStateFile(t *testing.T) {
	whole := someState.encode()
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 4
		if s, err := parseState(b); err == nil {
			t.Fatalf("byte %d is another one: %+v", i, s)
		}
		if s, err := parseState(whole[:i]); err == nil {
			t.Fatalf("cut after %d bytes: %+v", i, s)
		}
	}
	for _, b := range [][]byte{append(whole, '\n'), bytes.Repeat([]byte("x"), maxStateFile+1)} {
		if s, err := parseState(b); err == nil {
			t.Errorf("%d bytes: %+v", len(b), s)
		}
	}
}

func TestUnusableStateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, cm.StateFile)
	for what, make := range map[string]func() error{
		"a directory": func() error { return os.Mkdir(path, 0o700) },
		"a FIFO":      func() error { return syscall.Mkfifo(path, 0o600) },
		"a link":      func() error { return os.Symlink("elsewhere", path) },
		"empty":       func() error { return os.WriteFile(path, nil, 0o600) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		_, err := LoadState(dir)
		var damaged *DamagedError
		if !errors.As(err, &damaged) || damaged.Path != path {
			t.Errorf("%s: %v", what, err)
		}
		aside, err := SetAside(dir, cm.StateFile)
		if err != nil || aside != path+".damaged" {
			t.Errorf("%s: %s, %v", what, aside, err)
		}
		if _, err := os.Lstat(aside); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		os.RemoveAll(aside)
	}
}

// A later version may add settings, and raises the version for what an older one must not overlook.
func TestStateFileOfALaterVersion(t *testing.T) {
	if s, err := parseState(withChecksum("version = 1\nsystem_identifier = 5\nlsn = 0/0\n")); err != nil ||
		s.SystemIdentifier != 5 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, text := range []string{"version = 2\n", "timeline = x\n", "timeline = -1\n", "timeline\n", "port = 65536\n",
		"host = db\n", "since = today\n",
		"hostaddr = db\n", "holds = 2\n", "succession = 1 2\n", "postmaster_start = \n"} {
		if s, err := parseState(withChecksum(text)); err == nil || !strings.HasPrefix(err.Error(), "line 1: ") {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

func TestForgetInState(t *testing.T) {
	for number, want := range map[int]string{
		-1: "nothing",
		0:  `system identifier 7712353144152596028, timeline 2 of instance 1 (host "db\"2 ")`,
		1:  "system identifier 7712353144152596028",
	} {
		s := someState.Forget(number)
		if s.String() != want {
			t.Errorf("forget %d: %s", number, s)
		}
		if number == 1 && len(s.Successions) != 1 {
			t.Errorf("successions: %v", s.Successions)
		}
	}
}
