package control

// The pid file with real processes: owners that live, are killed, and race; and files that nobody
// can have written.

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
)

func mustCreate(t *testing.T, dir string) *PidFile {
	t.Helper()
	p, err := CreatePidFile(dir, Info{Port: 27546, ListenAddresses: "*"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Remove() })
	return p
}

func wantRunning(t *testing.T, dir string, want bool) Info {
	t.Helper()
	info, running, err := Running(dir)
	if err != nil || running != want {
		t.Fatalf("Running = %+v, %v, %v; want running %v", info, running, err, want)
	}
	return info
}

func TestPidFileFormat(t *testing.T) {
	dir := t.TempDir()
	info := Info{Pid: os.Getpid(), Dir: "/srv/cm", Started: time.Unix(1700000000, 0), Port: 27546,
		ListenAddresses: "localhost, ::1", BootID: "b-1", StartTicks: 77}
	p, err := CreatePidFile(dir, info)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Remove()
	path := filepath.Join(dir, "conmgr.pid")
	want := func(tail string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if w := fmt.Sprintf("%d\n/srv/cm\n1700000000\n27546\nlocalhost, ::1\nb-1 77\n%s\n", os.Getpid(),
			tail); err != nil || string(b) != w {
			t.Fatalf("%q, %v; want %q", b, err, w)
		}
	}
	want("starting\nnone       ")
	primary, all, both := Presence{Primary: true}, Presence{All: true}, Presence{Primary: true, All: true}
	for _, step := range []struct {
		set   Progress
		shown string
	}{{Progress{}, "starting\nnone       "},
		{Progress{Now: primary, Been: primary}, "ready   \nprimary    "},
		{Progress{Now: Presence{}, Been: primary}, "ready   \nnone       "},
		{Progress{Now: both, Been: both}, "complete\nprimary,all"},
		{Progress{Now: all, Been: both}, "complete\nall        "},
		{Progress{Now: primary, Been: primary}, "complete\nprimary    "},
		{Progress{Now: primary, Been: both, Stopping: true}, "stopping\nprimary    "},
		{Progress{Now: all, Been: both}, "stopping\nall        "}} {
		if err := p.SetProgress(step.set); err != nil {
			t.Fatal(err)
		}
		want(step.shown)
	}
	info.Status, info.Presence = StatusStopping, Presence{Known: true, All: true}
	if got, err := ReadPidFile(dir); err != nil || got != info {
		t.Errorf("read back %+v, %v", got, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := p.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	if err := errors.Join(p.Remove(), p.SetProgress(Progress{Been: all})); err != nil {
		t.Errorf("after Remove: %v", err)
	}
}

// Why the process could not become another program, behind all else.
func TestPidFileRefused(t *testing.T) {
	dir := t.TempDir()
	p, err := CreatePidFile(dir, Info{Port: 1, Again: Again{Becomes: true, Image: "7"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Remove()
	why := "what \"it\" said\n" + strings.Repeat("longer ", 1000)
	for _, refused := range []Refused{{1, why}, {2, "é"}} { // the first one is longer than what is kept
		if err := p.SetProgress(Progress{Refused: refused}); err != nil {
			t.Fatal(err)
		}
		got, err := ReadPidFile(dir)
		if kept := got.Refused; err != nil || kept.Times != refused.Times || len(kept.Why) > mostWhy+3 ||
			!strings.HasPrefix(refused.Why, strings.TrimSuffix(kept.Why, "...")) || len(kept.Why) < min(len(refused.Why), mostWhy) {
			t.Errorf("read back %+.100v, %v; want %+.100v", got.Refused, err, refused)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "conmgr.pid"))
	if err != nil || !strings.HasSuffix(string(b), "\nbecomes image=7\nrefused 2 \"é\"\n") {
		t.Errorf("%q, %v", b, err)
	}
	got, err := parseInfo(b[:len(b)-1])
	if err != nil || got.Refused != (Refused{}) || got.Again.Image != "7" {
		t.Errorf("half of a line: %+v, %v", got, err)
	}
}

func TestPidFileRefusesWhatItCannotHold(t *testing.T) {
	for _, info := range []Info{{Port: 0}, {Port: 65536}, {Port: 1, Dir: "/a\nb"}, {Port: 1, ListenAddresses: "x\n"},
		{Port: 1, BootID: "\n", StartTicks: 1},
		{Port: 1, Status: "idle"}, {Port: 1, Dir: "/" + strings.Repeat("d", maxPidFile)}} {
		dir := t.TempDir()
		if _, err := CreatePidFile(dir, info); err == nil {
			t.Errorf("accepted: %.80q", fmt.Sprint(info))
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Error("left a file")
		}
	}
}

func TestPidFileLifeOfAnOwner(t *testing.T) {
	dir := t.TempDir()
	wantRunning(t, dir, false)

	owner := play(t, "holder", dir)
	if s := owner.line(t); s != "locked" {
		t.Fatal(s)
	}
	if info := wantRunning(t, dir, true); info.Pid != owner.pid() || info.Dir != dir || info.Status != StatusStarting ||
		info.Port != 27546 {
		t.Errorf("%+v", info)
	}
	_, err := CreatePidFile(dir, Info{Port: 1})
	var running *RunningError
	if !errors.As(err, &running) || err.Error() != fmt.Sprintf("another conmgr process(PID %d) is running",
		owner.pid()) {
		t.Fatalf("second owner: %v", err)
	}

	if _, err := owner.stdin.Write([]byte("remove\n")); err != nil {
		t.Fatal(err)
	}
	if err := owner.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPidFile(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a clean end: %v", err)
	}
}

func TestPidFileOfAKilledOwner(t *testing.T) {
	dir := t.TempDir()
	owner := play(t, "holder", dir)
	owner.line(t)
	owner.kill(t)
	if info := wantRunning(t, dir, false); info.Pid != owner.pid() {
		t.Errorf("stale file: %+v", info)
	}
	next := mustCreate(t, dir)
	if info := wantRunning(t, dir, true); info.Pid != os.Getpid() {
		t.Errorf("%+v", info)
	}
	_ = next.Remove()
	wantRunning(t, dir, false)
}

// A longer stale file leaves nothing behind.
func TestPidFileReplacesAnyContent(t *testing.T) {
	for name, content := range map[string][]byte{
		"empty": nil, "garbage": []byte("\x00\xffgarbage"), "huge": bytes.Repeat([]byte("1\n"), 1<<20),
		"one line":  []byte("4711\n"),
		"truncated": []byte("4711\n/srv/cm\n1700000000\n27546\n*\nboot 77\nread"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, cm.PidFile)
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadPidFile(dir); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("read: %v", err)
			}
			if info := wantRunning(t, dir, false); info != (Info{}) {
				t.Errorf("%+v", info)
			}
			mustCreate(t, dir)
			if info := wantRunning(t, dir, true); info.Pid != os.Getpid() {
				t.Errorf("%+v", info)
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 || st.Size() > 500 {
				t.Errorf("%v, %v", st, err)
			}
		})
	}
}

func TestParseInfoNamesTheLine(t *testing.T) {
	good := []string{"4711", "/srv/cm", "1700000000", "27546", "*", "boot 77", "ready   "}
	if _, err := parseInfo([]byte(strings.Join(good, "\n") + "\nof a later version\n")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		line  int
		value string
	}{{1, "0"}, {1, "-1"}, {1, "99999999999999999999"}, {2, "cm"}, {3, "x"}, {4, "0"}, {4, "65536"}, {6, "77"},
		{6, " 77"}, {6, "boot -1"}, {7, ""}, {7, "resting"}} {
		lines := append([]string(nil), good...)
		lines[bad.line-1] = bad.value
		_, err := parseInfo([]byte(strings.Join(lines, "\n") + "\n"))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("line %d", bad.line)) {
			t.Errorf("line %d %q: %v", bad.line, bad.value, err)
		}
	}
}

// A file with the pid of a process that is another one: of an earlier boot, or of an earlier owner
// of the pid.
func TestStaleFileNeverMeansAStranger(t *testing.T) {
	stranger := play(t, "stranger")
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	ticks, err := startTicks(stranger.pid())
	if err != nil {
		t.Fatal(err)
	}
	base := Info{Pid: stranger.pid(), Dir: "/srv/cm", Started: time.Unix(1, 0), Port: 1, Status: StatusReady,
		BootID: boot, StartTicks: ticks}
	if p, err := openProcess(base); err != nil {
		t.Fatalf("the process itself: %v", err)
	} else {
		p.close()
	}
	reused, rebooted := base, base
	reused.StartTicks--
	rebooted.BootID = "00000000-0000-0000-0000-000000000000"
	for _, info := range []Info{reused, rebooted} {
		dir := t.TempDir()
		b, _, err := info.encode()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, cm.PidFile)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		wantRunning(t, dir, false)
		if _, err := openProcess(info); !errors.Is(err, errGone) {
			t.Errorf("openProcess: %v", err)
		}
		// Even if somebody else has the lock.
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		var unidentified *UnidentifiedError
		if _, running, err := Running(dir); !running || !errors.As(err, &unidentified) {
			t.Errorf("locked by somebody else: %v, %v", running, err)
		}
		if _, err := CreatePidFile(dir, Info{Port: 1}); err == nil ||
			err.Error() != "another conmgr process is running" {
			t.Errorf("CreatePidFile: %v", err)
		}
		_ = file.Close()
	}
	if err := stranger.cmd.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the stranger was harmed: %v", err)
	}
}

// Of many that start at once, one wins, while others keep looking.
func TestPidFileRace(t *testing.T) {
	dir := t.TempDir()
	stop := make(chan struct{})
	var lookers sync.WaitGroup
	for range 2 {
		lookers.Add(1)
		go func() {
			defer lookers.Done()
			for {
				select {
				case <-stop:
					return
				default:
					_, _, _ = Running(dir)
				}
			}
		}()
	}
	defer lookers.Wait()
	defer close(stop)
	for round := range 3 {
		const starters = 6
		said := make(chan string, starters)
		players := make([]*player, starters)
		for i := range players {
			players[i] = play(t, "holder", dir)
		}
		for _, p := range players {
			go func() {
				s, _ := p.lines.ReadString('\n')
				said <- s
			}()
		}
		winners := 0
		for range players {
			switch s := <-said; {
			case s == "locked\n":
				winners++
			case !strings.HasPrefix(s, "error: another conmgr process(PID "):
				t.Errorf("%q", s)
			}
		}
		if winners != 1 {
			t.Fatalf("round %d: %d winners", round, winners)
		}
		for _, p := range players {
			p.kill(t)
		}
	}
}

// An owner that removes its file, and one that starts at that moment, never both believe to have
// the directory, nor neither.
func TestPidFileHandover(t *testing.T) {
	dir := t.TempDir()
	var held sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for taken := 0; taken < 25; {
				p, err := CreatePidFile(dir, Info{Port: 1})
				if err != nil {
					var running *RunningError
					if !errors.As(err, &running) {
						t.Error(err)
						return
					}
					time.Sleep(time.Millisecond) // not all the time looking
					continue
				}
				if held.TryLock() {
					_, _, _ = Running(dir) // while it is held
					held.Unlock()
				} else {
					t.Error("two owners")
				}
				taken++
				if err := p.Remove(); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
}

func TestPidFileIsNoOrdinaryFile(t *testing.T) {
	for name, put := range map[string]func(string) error{
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"symlink":   func(path string) error { return os.Symlink("elsewhere", path) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, cm.PidFile)
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			if _, err := CreatePidFile(dir, Info{Port: 1}); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("create: %v", err)
			}
			if _, running, err := Running(dir); running || err == nil {
				t.Errorf("running: %v, %v", running, err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
				t.Error("followed a symbolic link")
			}
		})
	}
	if _, err := CreatePidFile(filepath.Join(t.TempDir(), "missing"), Info{Port: 1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

// Remove leaves the file of a successor alone.
func TestRemoveLeavesAnotherOwnersFile(t *testing.T) {
	dir := t.TempDir()
	first := mustCreate(t, dir)
	if err := os.Remove(filepath.Join(dir, cm.PidFile)); err != nil { // an administrator's mistake
		t.Fatal(err)
	}
	mustCreate(t, dir)
	if err := first.Remove(); err != nil {
		t.Fatal(err)
	}
	wantRunning(t, dir, true)
}

// Whatever is read was, or could have been, written.
func FuzzParseInfo(f *testing.F) {
	f.Add([]byte("4711\n/srv/cm\n1700000000\n27546\n*\nboot 77\nready   \n"))
	f.Add([]byte("4711\n/srv/cm\n1700000000\n27546\n*\nboot 77\ncomplete\nprimary,all\n"))
	f.Add([]byte("1\n/\n-1\n1\n\nb 0\nstopping\nmore\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := parseInfo(b)
		if err != nil || len(b) > maxPidFile/2 {
			return
		}
		again, _, err := info.encode()
		if err != nil {
			t.Fatalf("%+v: %v", info, err)
		}
		if back, err := parseInfo(again); err != nil || back != info {
			t.Fatalf("%+v became %+v, %v", info, back, err)
		}
	})
}
