package control

// Tests of cm_ctl forget: with and without a conmgr, with and without a terminal.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
)

// terminal makes a pseudo-terminal on which somebody has typed a line.
func terminal(t *testing.T, typed string) *os.File {
	t.Helper()
	master, slave := terminals(t)
	if _, err := master.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	return slave
}

// terminals are both ends of a pseudo-terminal; a program gets the second one.
func terminals(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func (d *desk) known(want string) {
	d.t.Helper()
	s, err := LoadState(d.dir)
	if err != nil || s.String() != want {
		d.t.Errorf("known: %s, %v, want %s", s, err, want)
	}
}

func TestForgetWithoutConmgr(t *testing.T) {
	d := newDesk(t, "prompt")
	all := `system identifier 7712353144152596028, timeline 2 of instance 1 (host "db\"2 ")`
	if err := SaveState(d.dir, someState, nil); err != nil {
		t.Fatal(err)
	}
	d.want(d.cmctl("forget"), 1, "standard input is not a terminal", "use --yes")
	for _, no := range []string{"\n", "n\n", "yeah\n", "\x04"} {
		d.tty = terminal(t, no)
		d.want(d.cmctl("forget"), 1, "Known: "+all+".\n",
			"Forget all that conmgr knows of its instances? (y/N) nothing is forgotten\n")
	}
	d.known(all)
	d.want(d.cmctl("forget", "-i", "0", "--yes"), 0, "forgotten; known now: "+all+"\n")
	d.tty = terminal(t, "Y\n")
	d.want(d.cmctl("forget", "--instance=1"), 0, "Forget what instance 1 has told conmgr of the timeline? (y/N) forgotten; known now: system identifier 7712353144152596028\n")
	d.known("system identifier 7712353144152596028")
	d.want(d.cmctl("forget", "--yes"), 0, "forgotten; known now: nothing\n")
	d.want(d.cmctl("forget", "--yes", "-i", "3"), 0, "forgotten; known now: nothing\n")
	entries, err := os.ReadDir(d.dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestForgetDamaged(t *testing.T) {
	d := newDesk(t, "prompt")
	path := filepath.Join(d.dir, cm.StateFile)
	d.touch(cm.StateFile)
	d.want(d.cmctl("forget", "--yes", "-i", "1"), 1, "it is damaged")
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	d.tty = terminal(t, "yes\n")
	d.want(d.cmctl("forget"), 0, "it is damaged", "known now: nothing")
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// A running conmgr forgets by itself; its file is left alone.
func TestForgetWithConmgr(t *testing.T) {
	d := newDesk(t, "prompt")
	d.want(d.cmctl("start"), 0)
	if err := SaveState(d.dir, someState, nil); err != nil {
		t.Fatal(err)
	}
	d.want(d.cmctl("forget", "--yes"), 0, "forgotten; known now: system identifier 7")
	d.want(d.cmctl("forget", "--yes", "-i", "2"), 0, "forgotten; known now: system identifier 7")
	d.want(d.cmctl("forget", "--yes", "-i", "12"), 1, "has not forgotten: ", "instance 12 is not configured")
	d.known(someState.String())
	d.want(d.cmctl("stop"), 0)

	d = newDesk(t, "fixed") // it does not know the statement
	d.want(d.cmctl("start", "-W"), 0)
	d.want(d.cmctl("forget", "--yes"), 1, "has not forgotten: FORGET: ERROR: no")
}

func TestForgetOptions(t *testing.T) {
	d := newDesk(t, "prompt")
	for _, n := range []string{"instance", "-1", "1x", ""} {
		d.want(d.cmctl("forget", "-i", n), 1, fmt.Sprintf("invalid instance %q", n))
	}
	d.want(d.cmctl("status", "-i", "1"), 1, `unrecognized item "1"`)
}

// An interrupt is a no.
func TestForgetInterrupted(t *testing.T) {
	d := newDesk(t, "prompt")
	d.tty = terminal(t, "")
	if err := SaveState(d.dir, someState, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	d.want(d.run(ctx, "forget", "-D", d.dir), 1, "nothing is forgotten")
	d.known(someState.String())
}
