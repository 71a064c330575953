package hook

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// Tests of event_command: what it gets, and that nothing of what it does is in anybody's way.

const patience = 30 * time.Second

type world struct {
	*Hook
	dir  string
	end  func()
	mu   sync.Mutex
	said []string
}

func start(t *testing.T, limit time.Duration, command string) *world {
	leak.Check(t)
	return startAfter(t, nil, t.TempDir(), limit, command)
}

// startAfter goes on with what another one has left.
func startAfter(t *testing.T, before *handover.Record, dir string, limit time.Duration, command string) *world {
	w := &world{dir: dir}
	hub := &event.Hub{}
	w.Hook = New(hub)
	hub.Subscribe(func(e event.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.said = append(w.said, e.Text())
		w.Take(event.Record{Event: event.Name(e)}) // as the history does
	})
	w.Set(strings.ReplaceAll(command, "DIR", w.dir), limit)
	if before != nil {
		w.Restore(before)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	w.end = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(w.end)
	return w
}

func (w *world) read(t *testing.T, name string) string {
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

func (w *world) complaints() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.said...)
}

func (w *world) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	testkit.Eventually(t, patience, what, func() (bool, string) { return is(), fmt.Sprint(w.complaints()) })
}

func record(n uint64) event.Record {
	in := 3
	return event.Record{Number: n, Event: "lost", Instance: &in, Text: `it's "gone"`}
}

// One after the other, in order, each with its event as a line of JSON.
func TestCommand(t *testing.T) {
	w := start(t, patience, "mkdir DIR/lock && cat >> DIR/out && rmdir DIR/lock")
	for i := range uint64(5) {
		w.Take(record(i))
	}
	w.until(t, "five lines", func() bool { return strings.Count(w.read(t, "out"), "\n") == 5 })
	for i, line := range strings.Split(strings.TrimSpace(w.read(t, "out")), "\n") {
		var r event.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Number != uint64(i) || *r.Instance != 3 || r.Text != `it's "gone"` {
			t.Errorf("line %d: %s, %v", i, line, err)
		}
	}
	if all := w.complaints(); len(all) > 0 {
		t.Errorf("complained: %q", all)
	}
}

// One that fails is told, once for each event, and is not run for that.
func TestCommandFails(t *testing.T) {
	w := start(t, patience, "cat > /dev/null; echo run >> DIR/out; echo no such; echo host >&2; exit 3")
	w.Take(record(1))
	w.until(t, "a complaint", func() bool { return len(w.complaints()) == 1 })
	if got := w.complaints()[0]; got != "event_command has failed for the event lost: exit status 3: no such host" {
		t.Errorf("got %q", got)
	}
	w.Take(record(2))
	w.until(t, "another one", func() bool { return len(w.complaints()) == 2 })
	if got := w.complaints()[1]; !strings.Contains(got, "for the event lost") {
		t.Errorf("got %q", got)
	}
	if got := w.read(t, "out"); got != "run\nrun\n" {
		t.Errorf("it was run for its own failure: %q", got)
	}
}

// One that hangs is killed with all that it has started; Take waits for nothing meanwhile, and what
// is too much is left out, and told.
func TestCommandHangs(t *testing.T) {
	w := start(t, 2*time.Second, "sleep 1000 & echo $! >> DIR/begun; sleep 1000; echo >> DIR/over")
	w.Take(record(0))
	w.until(t, "it runs", func() bool { return w.read(t, "begun") != "" })
	for i := range uint64(mostQueued + 7) {
		w.Take(record(1 + i))
	}
	w.until(t, "a complaint", func() bool { return len(w.complaints()) >= 2 })
	all := w.complaints()
	if all[0] != "event_command has failed for the event lost: it was ended after 2s" {
		t.Errorf("got %q", all[0])
	}
	if !strings.HasSuffix(all[1], "event_command was not run for 7 events, as too many were waiting for it") {
		t.Errorf("got %q", all[1])
	}
	child, _, _ := strings.Cut(w.read(t, "begun"), "\n")
	w.until(t, "what it has started ends with it", func() bool {
		b, err := os.ReadFile("/proc/" + child + "/stat")
		return err != nil || strings.Contains(string(b), ") Z ") // nobody has asked for its end yet
	})
	w.Set("", time.Second) // taken away: nothing waits any more
	w.end()
	if w.read(t, "over") != "" {
		t.Error("it went on")
	}
}

// One that does not read, and leaves somebody behind, is none that has failed.
func TestCommandDoesNotRead(t *testing.T) {
	w := start(t, patience, "exec <&-; (sleep 3; echo >> DIR/later) & echo >> DIR/out")
	w.Take(record(0))
	w.Take(record(1))
	w.until(t, "both were run", func() bool { return w.read(t, "out") == "\n\n" })
	w.end()
	if all := w.complaints(); len(all) > 0 {
		t.Errorf("complained: %q", all)
	}
}

func TestNameOfFailure(t *testing.T) {
	if got := event.Name(event.CommandFailed{}); got != failedName {
		t.Errorf("%s", got)
	}
}

func TestNoCommand(t *testing.T) {
	w := start(t, patience, "")
	w.Take(record(0))
	if len(w.queue) != 0 {
		t.Error("it is queued for nobody")
	}
}

// left is what goes on after w.
func (w *world) left() *handover.Record {
	w.GoOn()
	w.end()
	r := &handover.Record{}
	w.Leave(r)
	return r
}

// What runs goes on in the next process, which waits for its end before it runs the command for what
// was waiting: each event is told once, and one at a time.
func TestLeave(t *testing.T) {
	w := start(t, patience, "cat >> DIR/out; echo first; until test -e DIR/go; do sleep 0.01; done; echo last; exit 3")
	for i := range uint64(3) {
		w.Take(record(i))
	}
	w.until(t, "it runs", func() bool { return w.read(t, "out") != "" })
	next := startAfter(t, w.left(), w.dir, patience, "cat >> DIR/out; exit 4")
	if err := os.WriteFile(filepath.Join(w.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next.until(t, "three complaints", func() bool { return len(next.complaints()) == 3 })
	for i, line := range strings.Split(strings.TrimSpace(next.read(t, "out")), "\n") {
		if !strings.Contains(line, fmt.Sprintf(`"number":%d,`, i)) {
			t.Errorf("line %d: %s", i, line)
		}
	}
	if n := strings.Count(next.read(t, "out"), "\n"); n != 3 {
		t.Errorf("it was run %d times, for three events", n)
	}
	for i, want := range []string{"exit status 3: first last", "exit status 4", "exit status 4"} {
		if got := next.complaints()[i]; !strings.HasSuffix(got, ": "+want) {
			t.Errorf("complaint %d: %q, want %q", i, got, want)
		}
	}
	if all := w.complaints(); len(all) > 0 {
		t.Errorf("the one before complained: %q", all)
	}
	last := next.left()
	if len(last.Hooked) != 0 || last.Command != nil {
		t.Errorf("something is left: %+v", last)
	}
}

// What goes on has what was left of its time.
func TestLeaveHangs(t *testing.T) {
	w := start(t, 2*time.Second, "echo $$ > DIR/begun; sleep 1000")
	w.Take(record(0))
	w.until(t, "it runs", func() bool { return w.read(t, "begun") != "" })
	left := w.left()
	if left.Command == nil || left.Command.Left > 2*time.Second || left.Command.Limit != 2*time.Second {
		t.Fatalf("left: %+v", left.Command)
	}
	next := startAfter(t, left, w.dir, patience, "true")
	next.until(t, "a complaint", func() bool { return len(next.complaints()) == 1 })
	if got := next.complaints()[0]; got != "event_command has failed for the event lost: it was ended after 2s" {
		t.Errorf("got %q", got)
	}
}

// At the end of conmgr, what runs ends with it.
func TestEnd(t *testing.T) {
	w := start(t, patience, "sleep 1000 & echo $! > DIR/begun; wait")
	w.Take(record(0))
	w.until(t, "it runs", func() bool { return strings.HasSuffix(w.read(t, "begun"), "\n") })
	w.end()
	child := strings.TrimSpace(w.read(t, "begun"))
	w.until(t, "what it has started ends with it", func() bool {
		b, err := os.ReadFile("/proc/" + child + "/stat")
		return err != nil || strings.Contains(string(b), ") Z ")
	})
	if all := w.complaints(); len(all) > 0 {
		t.Errorf("complained: %q", all)
	}
}
