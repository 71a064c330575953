package cmlog

// Tests of the log: the format, and that no destination can make anybody wait.

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/internal/leak"
)

func TestStderrFormat(t *testing.T) {
	var b bytes.Buffer
	s := &Stderr{w: &b, pid: 42}
	when := time.Date(2026, 11, 23, 2, 31, 12, 123e6, time.UTC)
	s.Write(&Message{Level: LOG, Text: "text", Detail: "more\nlines", Hint: "Try.", when: when})
	want := "2026-11-23 02:31:12.123 UTC [42] LOG:  text\n2026-11-23 02:31:12.123 UTC [42] DETAIL:  more\n\tlines\n2026-11-23 02:31:12.123 UTC [42] HINT:  Try.\n"
	if b.String() != want {
		t.Errorf("got %q", b.String())
	}
}

// newTestLogger ends its goroutines before the test's leak check.
func newTestLogger(t *testing.T, min Level, sinks ...Sink) *Logger {
	g := &group.Group{OnPanic: func(name string, v any, stack []byte) { t.Errorf("%s: %v\n%s", name, v, stack) }}
	stop := make(chan struct{})
	l := New(min, g, stop, sinks...)
	t.Cleanup(func() {
		close(stop)
		if !g.Wait(5 * time.Second) {
			t.Error("log writers did not end")
		}
	})
	return l
}

func TestLogLevels(t *testing.T) {
	leak.Check(t)
	var b bytes.Buffer
	l := newTestLogger(t, WARNING, NewStderr(&b))
	for level := DEBUG; level <= PANIC; level++ {
		l.Log(level, "%s", "x")
	}
	l.Flush(5 * time.Second)
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		_, rest, _ := strings.Cut(line, "] ")
		got = append(got, strings.TrimSuffix(rest, ":  x"))
	}
	if s := strings.Join(got, " "); s != "WARNING ERROR LOG FATAL PANIC" {
		t.Errorf("got %s", s)
	}
}

// A pipe that nobody reads: the other destination and the callers go on.
func TestLogNeverBlocks(t *testing.T) {
	leak.Check(t)
	pr, pw := io.Pipe()
	var b bytes.Buffer
	l := newTestLogger(t, LOG, NewStderr(pw), NewStderr(&b))
	for i := 0; i < 3*logQueue; i++ {
		l.Log(LOG, "message %d", i)
		if i%100 == 0 {
			l.outputs[1].flushNow()
		}
	}
	l.outputs[1].flushNow()
	if !strings.Contains(b.String(), "message 3071\n") {
		t.Error("the living destination lost messages")
	}
	if l.outputs[0].dropped.Load() == 0 {
		t.Error("the dead destination dropped nothing")
	}
	l.Flush(time.Millisecond) // bounded
	go io.Copy(io.Discard, pr)
	l.Flush(5 * time.Second)
	t.Cleanup(func() { pr.Close() })
}

func (o *output) flushNow() {
	done := make(chan struct{})
	o.flush <- done
	<-done
}

func TestSyslog(t *testing.T) {
	leak.Check(t)
	usual := syslogPatience
	defer func() { syslogPatience = usual }()
	syslogPatience = -time.Second // as of a process that stands still: its time is over before it writes
	path := filepath.Join(t.TempDir(), "log")
	listen := func() *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		return c
	}
	s := newSyslog(path, 3, "me")
	t.Cleanup(func() {
		if s.conn != nil {
			s.conn.Close()
		}
	})
	when := time.Date(2026, 11, 3, 2, 31, 12, 0, time.UTC)
	s.Write(&Message{Level: LOG, Text: "nobody listens", when: when}) // returns
	s.retryAt = time.Time{}
	c := listen()
	read := func() string {
		buf := make([]byte, 2000)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	s.Write(&Message{Level: WARNING, Text: "text", Hint: "Try.", when: when})
	for _, want := range []string{"WARNING:  1 lines were not logged: syslog was not available", "WARNING:  text",
		"HINT:  Try."} {
		got := read()
		if !strings.HasPrefix(got, "<157>Nov  3 02:31:12 me[") || !strings.HasSuffix(got, "]: "+want) {
			t.Errorf("got %q", got)
		}
	}
	c.Close() // the daemon is restarted
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c = listen()
	defer c.Close()
	s.Write(&Message{Level: FATAL, Text: "again", when: when})
	if got := read(); !strings.HasPrefix(got, "<155>") || !strings.HasSuffix(got, "FATAL:  again") {
		t.Errorf("got %q", got)
	}
	syslogPatience = usual
	// It does not read any more: each message costs a bounded time, and after the first the daemon
	// is left alone for a while.
	start := time.Now()
	for i := 0; i < 2000; i++ {
		s.Write(&Message{Level: LOG, Text: strings.Repeat("x", 900), when: when})
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("a syslog daemon that does not read cost %v", d)
	}
}
