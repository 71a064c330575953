package web

// /status: what is there, as JSON. Made of snapshots, by the goroutine that answers.

import (
	"cmp"
	"encoding/json"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// document of /status. What has a name in cm_ctl status --json has it here, too.
type document struct {
	Version      string              `json:"version"`
	Pid          int                 `json:"pid"`
	Time         time.Time           `json:"time"`
	Started      time.Time           `json:"started"`
	Primary      *int                `json:"primary"` // number of the instance; null: none
	Established  int                 `json:"established"`
	IntervalMs   int64               `json:"heartbeat_interval_ms"`
	TimeoutMs    int64               `json:"heartbeat_timeout_ms"`
	Waiting      int                 `json:"waiting"`
	Instances    []instanceStatus    `json:"instances"`
	Applications []applicationStatus `json:"applications"`
	Events       []event.Record      `json:"events"` // the last ones, the oldest first
}

// instanceStatus is what cm_ctl tells of an instance, and what only the process itself has measured.
type instanceStatus struct {
	cm.InstanceStatus
	RoundTripMs *float64 `json:"rtt_ms"`
	JitterMs    *float64 `json:"jitter_ms"`
}

// applicationStatus are connections that are alike.
type applicationStatus struct {
	Instance        int    `json:"instance"`
	ApplicationName string `json:"application_name"`
	Target          string `json:"target"`
	Via             string `json:"via"`
	Connections     int    `json:"connections"`
}

const (
	mostEvents       = 50
	mostApplications = 100 // of different ones: those with the most connections
)

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	b, err := json.Marshal(s.document())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n'))
}

func (s *Server) document() document {
	t := s.Board.Table.Load()
	interval, timeout := s.Board.Heartbeats()
	d := document{Version: cm.Version, Pid: os.Getpid(), Time: time.Now().UTC().Truncate(time.Millisecond),
		Started:    s.started.UTC().Truncate(time.Millisecond),
		IntervalMs: interval.Milliseconds(), TimeoutMs: timeout.Milliseconds(), Waiting: len(s.Registry.Waiting()),
		Instances: []instanceStatus{}, Applications: s.applications(t), Events: s.History.Last(mostEvents)}
	if d.Events == nil {
		d.Events = []event.Record{}
	}
	p := t.Presence()
	d.Established = p.Established
	if p.HasPrimary() {
		d.Primary = &p.Primary
	}
	for i := range t.Entries {
		d.Instances = append(d.Instances, s.instance(t, i))
	}
	return d
}

func (s *Server) instance(t *bind.Table, i int) instanceStatus {
	e := &t.Entries[i]
	x := instanceStatus{InstanceStatus: cm.InstanceStatus{Instance: number(e.Config.Number), Host: text(e.Config.Name()),
		Port: number(e.Config.Port), WatchdogPort: number(e.Config.WatchdogPort), State: text(e.State.String()), Role: e.Role(),
		Generation: number(e.Generation), Bound: number(s.Registry.BoundTo(i)), UsedFor: text(strings.Join(t.UsedFor(i), ",")),
		NotUsed: text(t.NotUsed(i)), Draining: text(t.Draining(i)), Detail: text(e.Detail)}}
	if a := e.Address(); a.IsValid() {
		x.Hostaddr = text(a.String())
	}
	if e.Known {
		readOnly := e.Attributes.IsReadOnly()
		x.ReadOnly, x.LastRole = &readOnly, text(e.Attributes.Role())
		x.SystemID = text(strconv.FormatUint(e.SystemIdentifier, 10))
		if e.Attributes.Timeline > 0 {
			x.Timeline = number(e.Attributes.Timeline)
		}
	}
	if h := s.Board.Heard[i].Load(); h > 0 {
		x.LastHeartbeatMs = number(max(0, s.Now().Sub(heartbeat.Mono(h)).Milliseconds()))
	}
	if b := s.Metrics.Meter.Beats(e.Config.Number); b.Known && e.Established() {
		rtt, jitter := milliseconds(b.RoundTrip), milliseconds(b.Jitter)
		x.RoundTripMs, x.JitterMs = &rtt, &jitter
	}
	if e.Established() && e.Lag.Known {
		x.LagBytes = number(e.Lag.Bytes)
		if e.Lag.Time >= 0 {
			x.LagMs = number(e.Lag.Time.Milliseconds())
		}
	}
	return x
}

// milliseconds with three digits behind the point.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func number[N int | int64 | uint32 | uint64](n N) *int64 {
	i := int64(min(uint64(n), math.MaxInt64))
	return &i
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// applications are the bound connections, those that are alike together.
func (s *Server) applications(t *bind.Table) []applicationStatus {
	counts := map[applicationStatus]int{}
	for _, a := range s.Registry.Applications() {
		counts[applicationStatus{Instance: t.Entries[a.Instance].Config.Number, ApplicationName: a.Name, Target: a.Target,
			Via: a.Via}]++
	}
	all := make([]applicationStatus, 0, len(counts))
	for a, n := range counts {
		a.Connections = n
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b applicationStatus) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.Instance, b.Instance),
			cmp.Compare(a.ApplicationName, b.ApplicationName), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Via, b.Via))
	})
	return all[:min(len(all), mostApplications)]
}
