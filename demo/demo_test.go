package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

func TestFindLine(t *testing.T) {
	const log = `2026-11-23 03:08:17.744 UTC [22643] WARNING:  instance 0 (host "a", port 1) is lost: no heartbeat for 2001 ms
some text without a time stamp: instance 0 is lost: never
2026-11-23 03:08:19.225 UTC [22601] terminator worker LOG:  terminator: terminated connections: ipaddress="127.0.0.1", count=1
2026-11-23 03:08:19.250 UTC [22643] WARNING:  instance 0 (host "a", port 1) is lost: the server has shut down
2026-11-23 03:08:19.300 UTC [22643] ERROR:  statement "instance 0 is lost: never"
`
	at := func(s string) time.Time {
		when, err := time.Parse(time.TimeOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return when.AddDate(2026, 10, 22)
	}
	lost := regexp.MustCompile(`instance 0 .*is lost: (.*)`)
	for _, c := range []struct {
		since   string
		pattern *regexp.Regexp
		want    string // first group, or all; "": not found
		at      string
	}{
		{"03:08:00", lost, "no heartbeat for 2001 ms", "03:08:17.744"},
		{"03:08:17.7449", lost, "no heartbeat for 2001 ms", "03:08:17.744"}, // a stamp is cut to milliseconds
		{"03:08:17.745", lost, "the server has shut down", "03:08:19.250"},
		{"03:08:19.251", lost, "", ""},
		{"03:08:00", regexp.MustCompile(`^terminator: .*count=(\d+)`), "1", "03:08:19.225"},
	} {
		l, ok := findLine(log, at(c.since), c.pattern)
		if ok != (c.want != "") {
			t.Errorf("since %s, %v: found %v", c.since, c.pattern, l)
		} else if ok && (l.groups[1] != c.want || !l.at.Equal(at(c.at))) {
			t.Errorf("since %s, %v: got %q at %v, want %q at %s", c.since, c.pattern, l.groups[1], l.at, c.want, c.at)
		}
	}
}

func TestAccount(t *testing.T) {
	for _, c := range []struct {
		acked, found     []int64
		lost, duplicates int
	}{
		{nil, nil, 0, 0},
		{[]int64{1, 2, 3}, []int64{1, 2, 3}, 0, 0},
		{[]int64{1, 2, 3}, []int64{3, 1}, 1, 0},
		{[]int64{1, 2}, []int64{1, 2, 2, 2}, 0, 2},
		{[]int64{1, 2}, []int64{1, 2, 3}, 0, 0}, // written, and the answer never came
	} {
		if lost, duplicates := account(c.acked, c.found); lost != c.lost || duplicates != c.duplicates {
			t.Errorf("account(%v, %v): got %d lost, %d duplicates, want %d and %d", c.acked, c.found, lost, duplicates,
				c.lost, c.duplicates)
		}
	}
}

func TestTimelineIsInOrderOfTime(t *testing.T) {
	var b bytes.Buffer
	zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tl := newTimeline(&b, false)
	tl.start(zero)
	tl.add(zero.Add(1999600*time.Microsecond), "application", "error")
	tl.add(zero.Add(1998*time.Millisecond), "conmgr", "verdict of %d", 7)
	tl.flush()
	tl.add(zero, "primary", "late news")
	tl.flush()
	tl.flush()
	want := "  1998 ms  conmgr       verdict of 7\n  2000 ms  application  error\n     0 ms  primary      late news\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	tl = newTimeline(&b, true)
	tl.start(zero)
	tl.add(zero, "primary", "coloured")
	tl.flush()
	if !strings.Contains(b.String(), "\x1b[31mprimary    \x1b[0m  coloured") {
		t.Errorf("got %q, want the colour of the primary, with its padding", b.String())
	}
}

func TestTail(t *testing.T) {
	if got, want := string(tail([]byte("log of x:\n1\n2\n3\n\n"), 2)),
		"log of x:\n[1 lines left out]\n2\n3\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := string(tail([]byte("a\nb\nc"), 2)), "a\nb\nc\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A stopped process in a directory of a dead demo is ended, and the directory removed; the
// directory of another process is not.
func TestGuardRemovesWhatIsLeft(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	const pid = "999999999"
	left := filepath.Join(temp, "wdpg-"+pid+"-1", "data")
	other := filepath.Join(temp, "wdpg-"+strconv.Itoa(os.Getpid())+"-1")
	for _, dir := range []string{left, other} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", "kill -STOP $$; exec sleep 600")
	cmd.Dir = left
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	testkit.Eventually(t, 10*time.Second, "stopped process", func() (bool, string) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat")
		return err == nil && strings.Contains(string(stat), ") T "), string(stat)
	})
	if got := processesIn([]string{filepath.Dir(left)}); !slices.Equal(got, []int{cmd.Process.Pid}) {
		t.Errorf("processes in %s: got %v, want %d", left, got, cmd.Process.Pid)
	}
	if status := runGuard(pid, strings.NewReader("")); status != 1 {
		t.Errorf("got status %d, want 1: something was left", status)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		t.Error("the process is still there")
	}
	if _, err := os.Stat(filepath.Dir(left)); !os.IsNotExist(err) {
		t.Errorf("%s is still there", left)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
	if status := runGuard(pid, strings.NewReader("")); status != 0 {
		t.Errorf("got status %d, want 0: nothing is left", status)
	}
}
