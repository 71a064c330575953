package conmgr

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/metrics"
	"github.com/pgwatchdog/watchdog/conmgr/route"
)

// BenchmarkScrape is what an answer to Prometheus costs, but for the network.
func BenchmarkScrape(b *testing.B) {
	c, _ := conf.Parse("conmgr.conf", []byte("backend_host0 = a\nbackend_host1 = b\n"))
	m := metrics.New(c.Instances)
	for i := range c.Instances {
		m.Meter.Measured(&c.Instances[i], time.Millisecond)
	}
	r := bind.NewRegistry(2, 10)
	h := m.Handler(bind.NewBoard(conf.NewCurrent(c), &event.Hub{}, r, nil, route.Known{}), r, clock.Monotonic, time.Now())
	q := httptest.NewRequest("GET", "/metrics", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), q)
	}
}
