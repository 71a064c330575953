package status

// Tests of the two subscribers: what is told for which events.

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/control"
)

func present(primary, established, instances int) event.Event {
	return event.PresenceChanged{Presence: event.Presence{Primary: primary, Established: established,
		Instances: instances}}
}

var nothing event.Event = event.Conflict{What: "of no interest"}

var monotonic = regexp.MustCompile(`MONOTONIC_USEC=[1-9]\d+`)

func TestSystemd(t *testing.T) {
	for _, x := range []struct {
		name string
		all  []event.Event
		want string
	}{
		{"nothing has happened", []event.Event{nothing}, ""},
		{"started", []event.Event{event.Started{}}, "READY=1\nSTATUS=connecting to instances"},
		{"connected", []event.Event{present(-1, 1, 2)}, "STATUS=1 of 2 instances established, no primary"},
		{"the last status counts", []event.Event{present(-1, 1, 2), nothing, present(1, 2, 2)},
			"STATUS=2 of 2 instances established, primary is instance 1"},
		{"ready is not left out", []event.Event{event.Started{}, present(0, 1, 1)},
			"READY=1\nSTATUS=1 of 1 instances established, primary is instance 0"},
		{"shutting down", []event.Event{event.ShutdownRequested{}, event.ShutdownRequested{}, present(-1, 0, 2)},
			"STOPPING=1\nSTATUS=shutting down"},
		{"becoming another program", []event.Event{event.Restarting{}},
			"RELOADING=1\nMONOTONIC_USEC=now\nSTATUS=restarting"},
		{"staying", []event.Event{event.NotRestarted{}}, "RELOADING=1\nMONOTONIC_USEC=now\nREADY=1"},
	} {
		wake := make(chan struct{}, 1)
		s := Systemd{Wake: wake}
		for _, e := range x.all {
			s.Take(e)
		}
		if (len(wake) == 1) != (x.want != "") {
			t.Errorf("%s: woken %d times", x.name, len(wake))
		}
		if got := monotonic.ReplaceAllString(s.next(), "MONOTONIC_USEC=now"); got != x.want {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
		if got := s.next(); got != "" {
			t.Errorf("%s: told again: %q", x.name, got)
		}
	}
}

// What systemd's watchdog wants to hear is told with the rest, once.
func TestSystemdsWatchdog(t *testing.T) {
	wake := make(chan struct{}, 1)
	s := Systemd{Wake: wake}
	s.Take(event.Started{})
	s.Alive()
	s.Alive()
	if len(wake) != 1 {
		t.Error("nobody is woken")
	}
	if got, want := s.next(), "READY=1\nWATCHDOG=1\nSTATUS=connecting to instances"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, x := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0}, {"0", "", 0}, {"-1", "", 0}, {"soon", "", 0}, {"30000000", "", 15 * time.Second},
		{"30000000", strconv.Itoa(os.Getpid()), 15 * time.Second}, {"30000000", "1", 0},
		{"9223372036854775807", "", 0},
	} {
		t.Setenv("WATCHDOG_USEC", x.usec)
		t.Setenv("WATCHDOG_PID", x.pid)
		if got := WatchdogInterval(); got != x.want {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %v, want %v", x.usec, x.pid, got, x.want)
		}
	}
}

// It is told by a process that stands still, too: its time is over before it writes.
func TestSystemdIsTold(t *testing.T) {
	defer func(d time.Duration) { tellLimit = d }(tellLimit)
	tellLimit = -time.Second
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	var s Systemd
	s.Tell() // nothing
	s.Take(event.Started{})
	s.Tell()
	s.Take(present(0, 1, 1))
	s.Tell()
	if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"READY=1\nSTATUS=connecting to instances",
		"STATUS=1 of 1 instances established, primary is instance 0"} {
		buf := make([]byte, 500)
		if n, err := l.Read(buf); string(buf[:n]) != want {
			t.Errorf("%q, %v; want %q", buf[:n], err, want)
		}
	}
}

// recorder is a pid file.
type recorder struct {
	got []control.Progress
	err error
}

func (r *recorder) SetProgress(p control.Progress) error {
	r.got = append(r.got, p)
	return r.err
}

// The two facts, now and ever; what came and went between two writings counts.
func TestPidFile(t *testing.T) {
	file, wake := &recorder{}, make(chan struct{}, 1)
	f := PidFile{File: file, Wake: wake}
	facts := func(primary, all bool) control.Presence {
		return control.Presence{Known: true, Primary: primary, All: all}
	}
	been := func(primary, all bool) control.Presence { return control.Presence{Primary: primary, All: all} }
	for _, x := range []struct {
		name string
		all  []event.Event
		want control.Progress
	}{
		{"nobody is there", []event.Event{event.Started{}, present(-1, 0, 2)}, control.Progress{Now: facts(false, false)}},
		{"a standby", []event.Event{present(-1, 1, 2)}, control.Progress{}},
		{"the primary", []event.Event{present(0, 1, 2)}, control.Progress{Now: facts(true, false), Been: been(true, false)}},
		{"all for a moment", []event.Event{present(0, 2, 2), present(1, 1, 2)},
			control.Progress{Now: facts(true, false), Been: been(true, true)}},
		{"all without a primary", []event.Event{present(-1, 2, 2)}, control.Progress{Now: facts(false, true), Been: been(true, true)}},
		{"it does not restart, for one reason", []event.Event{event.NotRestarted{Err: errors.New("this")}},
			control.Progress{Now: facts(false, true), Been: been(true, true), Refused: control.Refused{Times: 1, Why: "this"}}},
		{"the same again", []event.Event{event.NotRestarted{Err: errors.New("this")}},
			control.Progress{Now: facts(false, true), Been: been(true, true), Refused: control.Refused{Times: 2, Why: "this"}}},
		{"the end", []event.Event{event.ShutdownRequested{}, event.ShutdownRequested{}},
			control.Progress{Now: facts(false, true), Been: been(true, true), Stopping: true,
				Refused: control.Refused{Times: 2, Why: "this"}}},
	} {
		file.got = nil
		for _, e := range x.all {
			f.Take(e)
		}
		if err := f.Tell(); err != nil {
			t.Error(err)
		}
		woken := len(wake)
		if woken > 0 {
			<-wake
		}
		switch due := x.want != (control.Progress{}); {
		case (woken == 1) != due:
			t.Errorf("%s: woken %d times", x.name, woken)
		case !due && len(file.got) == 0:
		case len(file.got) != 1 || file.got[0] != x.want:
			t.Errorf("%s: %+v, want %+v", x.name, file.got, x.want)
		}
	}
	file.err = errors.New("no room")
	f.Take(present(0, 2, 2))
	if err := f.Tell(); err == nil {
		t.Error("the error is not told")
	}
	if err := f.Tell(); err != nil || len(file.got) != 2 {
		t.Errorf("written again: %v", err)
	}
}
