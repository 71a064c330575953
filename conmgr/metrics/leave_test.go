package metrics

import (
	"encoding/json"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// counted is what a scrape says of what has happened so far.
func counted(m *Metrics, c *conf.Config) string {
	r := bind.NewRegistry(len(c.Instances), 10)
	h := m.Handler(bind.NewBoard(conf.NewCurrent(c), &event.Hub{}, r, nil, route.Known{}), r, clock.Monotonic, time.Now())
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	all := regexp.MustCompile(`(?m)^conmgr_\w+(_total|_seconds_(bucket|sum|count))(\{[^}]*\})? .*$`).FindAllString(w.Body.String(), -1)
	var own []string
	for _, line := range all {
		if !strings.HasPrefix(line, "conmgr_cpu") {
			own = append(own, line)
		}
	}
	return strings.Join(own, "\n")
}

// What was counted goes on, through the record as it is written, but of an instance that is another
// one now.
func TestLeave(t *testing.T) {
	c, _ := conf.Parse("conmgr.conf", []byte("backend_host0 = a\nbackend_host1 = b\n"))
	m := New(c.Instances)
	a, b := event.Instance{Number: 0, Host: "a", Port: 1}, event.Instance{Number: 1, Host: "b", Port: 1}
	for _, e := range []event.Event{event.Lost{Instance: a, Loss: heartbeat.Loss{Reason: heartbeat.LossSilence}}, event.Established{Instance: a},
		event.Established{Instance: b}, event.ApplicationsTold{Instance: a, N: 7}, event.Bound{Want: cm.Primary, Found: true},
		event.WaitersServed{N: 3}, event.Overfull{}} {
		m.Take(e)
	}
	for _, took := range []time.Duration{0, 50 * time.Microsecond, 51 * time.Microsecond, 3 * time.Millisecond, time.Minute} {
		m.Meter.Measured(&c.Instances[0], took)
	}
	m.Meter.Measured(&c.Instances[1], time.Second)
	var r handover.Record
	m.Leave(&r)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	next := func(conmgrConf string) string {
		var left handover.Record
		if err := json.Unmarshal(text, &left); err != nil {
			t.Fatal(err)
		}
		c, _ := conf.Parse("conmgr.conf", []byte(conmgrConf))
		m := New(c.Instances)
		m.Restore(&left)
		return counted(m, c)
	}
	was := counted(m, c)
	if now := next("backend_host0 = a\nbackend_host1 = b\n"); now != was {
		t.Errorf("was\n%s\nis\n%s", was, now)
	}
	for _, line := range []string{`conmgr_applications_told_total{host="a",how="loss",instance="0"} 7`,
		`conmgr_waits_served_total 3`, `conmgr_heartbeat_rtt_seconds_bucket{host="a",instance="0",le="5e-05"} 2`,
		`conmgr_heartbeat_rtt_seconds_bucket{host="a",instance="0",le="5"} 4`, `conmgr_heartbeat_rtt_seconds_count{host="a",instance="0"} 5`,
		`conmgr_connections_refused_total{limit="max_connections"} 1`} {
		if !strings.Contains(was+"\n", line+"\n") {
			t.Errorf("no %s in\n%s", line, was)
		}
	}
	now := next("backend_host0 = b\nbackend_host1 = b\n") // another host by the number 0
	if strings.Contains(now, `host="a"`) || !strings.Contains(now, `conmgr_instance_connects_total{host="b",instance="0"} 0`) ||
		!strings.Contains(now, `conmgr_instance_connects_total{host="b",instance="1"} 1`) || !strings.Contains(now, "conmgr_waits_served_total 3") {
		t.Errorf("another host:\n%s", now)
	}
}

// What a program of another version has left is not taken for what it is not.
func TestLeftByAnother(t *testing.T) {
	c, _ := conf.Parse("conmgr.conf", []byte("backend_host0 = a\n"))
	m := New(c.Instances)
	was := counted(m, c)
	m = New(c.Instances)
	m.Restore(&handover.Record{Counts: []handover.Count{{Name: "conmgr_of_tomorrow_total", Instance: -1, N: 1},
		{Name: "conmgr_targets_total", Instance: -1, Labels: map[string]string{"other": "x"}, N: 1},
		{Name: "conmgr_waits_served_total", Instance: -1, N: -1}},
		Times: []handover.Times{{Instance: 0, Host: "a", Bounds: []float64{1}, Counts: []uint64{1, 2}, Sum: 3}}})
	now := regexp.MustCompile(`(?m)^conmgr_heartbeat_rtt_.* 0$\n?`).ReplaceAllString(counted(m, c), "")
	if strings.TrimSpace(now) != strings.TrimSpace(was) {
		t.Errorf("was\n%s\nis\n%s", was, now)
	}
}
