package console

import (
	"fmt"
	"testing"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
)

// What SHOW STATS tells goes on over a reload, but of an instance that is another one now.
func TestStatsGoOn(t *testing.T) {
	stats := func(text string) *Stats {
		c, _ := conf.Parse("conmgr.conf", []byte(text))
		return NewStats(c)
	}
	const both = "backend_host0 = a\nbackend_host2 = c\n"
	s := stats(both)
	for _, e := range []event.Event{event.Accepted{}, event.Accepted{}, event.Established{Instance: event.Instance{Number: 0, Host: "a"}},
		event.Lost{Instance: event.Instance{Number: 2, Host: "c"}}, event.ApplicationsTold{Instance: event.Instance{Number: 2}, N: 9}} {
		s.Take(e)
	}
	left := append(s.Leave(), handover.Count{Name: "of_tomorrow", Instance: -1, N: 1}, handover.Count{Name: "told", Instance: 2, Host: "c", N: -1})
	next := stats(both)
	next.Restore(left)
	if was, is := fmt.Sprint(s.rows()), fmt.Sprint(next.rows()); was != is {
		t.Errorf("was %s, is %s", was, is)
	}
	next.Take(event.Accepted{})
	if got := next.rows()[0][2]; got != "3" {
		t.Errorf("%s connections", got)
	}
	other := stats("backend_host0 = a\nbackend_host2 = b\n")
	other.Restore(left)
	for _, row := range other.rows() {
		want := map[string]string{"connections": "2", "established0": "1"}[row[0]+map[bool]string{true: row[1]}[row[1] != null]]
		if want == "" {
			want = "0"
		}
		if row[2] != want {
			t.Errorf("%q, want %s", row, want)
		}
	}
}
