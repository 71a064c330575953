package metrics

// What was counted goes on in the process that conmgr becomes, so that a rate over a reload is one.
// Run by the main goroutine, when nobody counts.

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
)

// Leave adds all of it to a record.
func (m *Metrics) Leave(r *handover.Record) {
	own := prometheus.NewRegistry()
	own.MustRegister(bundle(m.counters.all()))
	families, _ := own.Gather() // what could be read
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			c := handover.Count{Name: f.GetName(), Instance: -1, Labels: map[string]string{}, N: metric.GetCounter().GetValue()}
			for _, l := range metric.GetLabel() {
				c.Labels[l.GetName()] = l.GetValue()
			}
			if number, is := c.Labels["instance"]; is {
				c.Instance, _ = strconv.Atoi(number)
				c.Host = c.Labels["host"]
			}
			if c.N > 0 {
				r.Counts = append(r.Counts, c)
			}
		}
	}
	r.Times = append(r.Times, m.Meter.leave()...)
}

// Restore goes on with what the process before has counted. Of an instance that has another number or
// host now, it begins anew.
func (m *Metrics) Restore(r *handover.Record) {
	for _, c := range r.Counts {
		v := m.counters.byName[c.Name]
		if v == nil || !(c.N > 0) || c.Instance >= 0 && m.instance(c.Instance, c.Host) == nil {
			continue
		}
		if counter, err := v.GetMetricWith(c.Labels); err == nil {
			counter.Add(c.N)
		}
	}
	for i := range r.Times {
		if in := m.instance(r.Times[i].Instance, r.Times[i].Host); in != nil {
			m.Meter.of(in).restore(&r.Times[i])
		}
	}
}

// instance is the one of conmgr.conf that is still the same; nil: there is none.
func (m *Metrics) instance(number int, host string) *conf.Instance {
	for i := range m.known {
		if in := &m.known[i]; in.Number == number && in.Name() == host {
			return in
		}
	}
	return nil
}

func (m *Meter) leave() (all []handover.Times) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for number, b := range m.all {
		counts, sum := b.measured()
		all = append(all, handover.Times{Instance: number, Host: b.host, Bounds: roundTripBuckets, Counts: counts, Sum: sum})
	}
	return all
}

// restore takes nothing of a program whose buckets were others.
func (b *meter) restore(t *handover.Times) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(t.Bounds, roundTripBuckets) || len(t.Counts) != len(b.counts) {
		return
	}
	b.counts, b.sum = slices.Clone(t.Counts), t.Sum
}
