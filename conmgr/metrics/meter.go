package metrics

// Round trips of heartbeats, as the instances' goroutines measure them, and read by any.

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
)

// roundTripBuckets are from 50 us, within a rack, to 5 s, which no heartbeat_timeout should see.
var roundTripBuckets = []float64{0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5}

// Beats are the last round trip of an instance, and how much round trips differ.
type Beats struct {
	RoundTrip time.Duration
	Jitter    time.Duration // mean difference from one to the next, smoothed as in RFC 3550
	Known     bool          // there was one
}

// descRoundTrip is a histogram.
var descRoundTrip = of("conmgr_heartbeat_rtt_seconds",
	"Round trip of heartbeats: from one of conmgr's to its echo, without the time for which the watchdog had it.")

// Meter is made by NewMeter.
type Meter struct {
	mu  sync.RWMutex
	all map[int]*meter // by number of the instance
}

type meter struct {
	host string

	mu     sync.Mutex
	last   Beats
	counts []uint64 // of each bucket, and beyond the last
	sum    float64  // seconds
}

// NewMeter has measured nothing.
func NewMeter() *Meter { return &Meter{all: map[int]*meter{}} }

// Measured takes in a round trip.
func (m *Meter) Measured(of *conf.Instance, took time.Duration) {
	b := m.of(of)
	s := took.Seconds()
	i, _ := slices.BinarySearch(roundTripBuckets, s) // a bound belongs to its bucket
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[i]++
	b.sum += s
	b.last = b.last.next(took)
}

// next takes in one more: RFC 3550, 6.4.1, of round trips.
func (b Beats) next(took time.Duration) Beats {
	if !b.Known {
		return Beats{RoundTrip: took, Known: true}
	}
	return Beats{RoundTrip: took, Jitter: b.Jitter + ((took-b.RoundTrip).Abs()-b.Jitter)/16, Known: true}
}

// of is the meter of an instance; one whose host is another is a new one.
func (m *Meter) of(in *conf.Instance) *meter {
	m.mu.RLock()
	b := m.all[in.Number]
	m.mu.RUnlock()
	if b != nil && b.host == in.Name() {
		return b
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b = &meter{host: in.Name(), counts: make([]uint64, len(roundTripBuckets)+1)}
	m.all[in.Number] = b
	return b
}

// Beats are those of an instance.
func (m *Meter) Beats(number int) Beats {
	m.mu.RLock()
	b := m.all[number]
	m.mu.RUnlock()
	if b == nil {
		return Beats{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// Describe is of the interface: none, so that it may differ from scrape to scrape.
func (m *Meter) Describe(chan<- *prometheus.Desc) {}

// Collect makes the histograms.
func (m *Meter) Collect(out chan<- prometheus.Metric) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for number, b := range m.all {
		counts, sum := b.measured()
		upTo, n := map[float64]uint64{}, uint64(0)
		for i, bound := range roundTripBuckets {
			n += counts[i]
			upTo[bound] = n
		}
		n += counts[len(roundTripBuckets)]
		out <- prometheus.MustNewConstHistogram(descRoundTrip, n, sum, upTo, strconv.Itoa(number), b.host)
	}
}

func (b *meter) measured() (counts []uint64, sum float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.counts), b.sum
}

// Keep forgets all instances but these.
func (m *Meter) Keep(instances []conf.Instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for number, b := range m.all {
		there := false
		for i := range instances {
			there = there || instances[i].Number == number && instances[i].Name() == b.host
		}
		if !there {
			delete(m.all, number)
		}
	}
}
