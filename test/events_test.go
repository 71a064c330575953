package test

// What has happened is told later: by SHOW EVENTS, to event_command, and by a page. None of it is lost
// by a restart in place, and a command that hangs holds no heartbeat up.

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

func TestEventsAreKept(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "200ms", Timeout: "1s", Clusters: []*pgtest.Cluster{w.primary},
		Extra: "event_command = 'cat >> events; sleep 60'\nevent_command_timeout = 1s\nhttp_port = 8008\n"})
	cm.WaitInstance(0, "state", "established")
	cut := w.net.Cut(client, w.db)
	cm.WaitInstance(0, "state", "lost")
	cut.Heal()
	cm.WaitInstance(0, "state", "established")
	atoi := func(s string) int {
		t.Helper()
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	number := func(row map[string]string) int { return atoi(row["number"]) }
	find := func() (number string, found bool) {
		for _, row := range cm.Show("SHOW EVENTS") {
			if row["event"] == "lost" && row["reason"] == "silence" && row["instance"] == "0" && row["host"] == w.db.Addr4.String() {
				return row["number"], true
			}
		}
		return "", false
	}
	lost, ok := find()
	if !ok {
		t.Fatalf("the loss is not among %v", cm.Show("SHOW EVENTS"))
	}
	for _, row := range cm.Show("SHOW EVENTS AFTER " + lost) {
		if number(row) <= atoi(lost) {
			t.Errorf("after %s: %v", lost, row)
		}
	}
	// The command, which is killed each time after a second, has got them one after the other.
	eventually(t, "event_command has got the loss", func() (bool, string) {
		b, err := os.ReadFile(filepath.Join(cm.Dir, "events"))
		for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			var e struct {
				Event, Reason, Text string
				Instance            *int
			}
			if json.Unmarshal([]byte(line), &e) == nil && e.Event == "lost" && e.Reason == "silence" && *e.Instance == 0 {
				return true, ""
			}
		}
		return false, fmt.Sprint(string(b), err)
	})
	t.Log(cm.WaitLog(0, `event_command has failed for the event \w+: it was ended after 1s`, patience).Text)
	if n := strings.Count(cm.Log(), "is lost"); n != 1 {
		t.Errorf("%d losses, beside a command that hangs", n)
	}
	web := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: client.Dialer().DialContext, DisableKeepAlives: true}}
	page := func() string {
		t.Helper()
		a, err := web.Get("http://127.0.0.1:8008/status")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		b, err := io.ReadAll(a.Body)
		if err != nil || a.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v", a.Status, err)
		}
		return string(b)
	}
	cm.Become()
	if body := page(); !strings.Contains(body, `"number":`+lost+`,`) {
		t.Errorf("after a restart /status does not tell of event %s: %s", lost, body)
	}
	if again, ok := find(); !ok || again != lost {
		t.Errorf("after a restart the loss is event %q, before it was %s", again, lost)
	}
	last := cm.Show("SHOW EVENTS")
	if number(last[0]) >= atoi(lost) || len(last) < 5 {
		t.Errorf("what came before it is gone: %v", last)
	}
}

// TestCommandGoesOn: an event_command that runs when conmgr becomes another process goes on, is not run
// again, and no other one runs beside it.
func TestCommandGoesOn(t *testing.T) {
	w := newWorld(t)
	cm := cmtest.Start(t, w.net.Host("client"), cmtest.Config{Interval: "200ms", Timeout: "1s",
		Clusters: []*pgtest.Cluster{w.primary}, Extra: "event_command_timeout = 60s\n" +
			"event_command = 'echo begins >> runs; cat >> events; until test -e go; do sleep 0.05; done; echo ends >> runs'\n"})
	lines := func(name string) []string {
		b, err := os.ReadFile(filepath.Join(cm.Dir, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Fields(string(b))
	}
	eventually(t, "event_command runs", func() (bool, string) { return len(lines("events")) > 0, cm.Log() })
	cm.WaitInstance(0, "state", "established")
	for range 2 {
		cm.Become()
		cm.WaitInstance(0, "state", "established")
	}
	if runs := lines("runs"); !reflect.DeepEqual(runs, []string{"begins"}) {
		t.Errorf("after two restarts it has run %q", runs)
	}
	if err := os.WriteFile(filepath.Join(cm.Dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "event_command has got each event once", func() (bool, string) {
		var want, got []string
		for _, row := range cm.Show("SHOW EVENTS") {
			want = append(want, row["number"])
		}
		b, _ := os.ReadFile(filepath.Join(cm.Dir, "events"))
		for line := range strings.Lines(string(b)) {
			var e struct{ Number json.Number }
			_ = json.Unmarshal([]byte(line), &e)
			got = append(got, e.Number.String())
		}
		return reflect.DeepEqual(got, want), fmt.Sprintf("got %s, want %s", got, want)
	})
	for i, what := range lines("runs") {
		if what != []string{"begins", "ends"}[i%2] {
			t.Fatalf("not one at a time: %s", lines("runs"))
		}
	}
}
