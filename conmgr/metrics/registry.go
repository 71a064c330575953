package metrics

// All metrics, and their answer to a scrape.

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
)

// Metrics is made by New.
type Metrics struct {
	Meter    *Meter
	counters *counters
	registry *prometheus.Registry
	known    []conf.Instance
}

// New begins to count.
func New(instances []conf.Instance) *Metrics {
	m := &Metrics{Meter: NewMeter(), counters: newCounters(), registry: prometheus.NewRegistry()}
	m.counters.beginTargets()
	m.Instances(instances)
	return m
}

// Instances are those of conmgr.conf from now on.
func (m *Metrics) Instances(all []conf.Instance) {
	for i := range m.known {
		there := false
		for j := range all {
			there = there || all[j].Number == m.known[i].Number && all[j].Name() == m.known[i].Name()
		}
		if !there {
			m.counters.drop(m.known[i].Number, m.known[i].Name())
		}
	}
	for i := range all {
		m.counters.begin(&all[i])
	}
	m.Meter.Keep(all)
	m.known = all
}

// Take is a subscriber of the event hub.
func (m *Metrics) Take(e event.Event) { m.counters.take(e) }

// bundle is all collectors as one: for each one the registry would wake a goroutine, which costs more
// than what it does.
type bundle []prometheus.Collector

// Describe is of the interface.
func (bundle) Describe(chan<- *prometheus.Desc) {}

// Collect collects one after the other.
func (b bundle) Collect(out chan<- prometheus.Metric) {
	for _, c := range b {
		c.Collect(out)
	}
}

// mostScrapes are answered at a time.
const mostScrapes = 4

// Handler answers scrapes with what has happened so far, and what is there.
func (m *Metrics) Handler(b *bind.Board, r *bind.Registry, now clock.Clock, started time.Time) http.Handler {
	m.registry.MustRegister(bundle(append(m.counters.all(), m.Meter,
		&collector{board: b, registry: r, meter: m.Meter, now: now, started: float64(started.UnixMilli()) / 1e3})))
	// Compression would cost more than all else: a scrape is some kilobytes, within a host mostly.
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{DisableCompression: true, MaxRequestsInFlight: mostScrapes,
		ErrorHandling: promhttp.ContinueOnError})
}
