package test

// A health check that comes in the moment of a restart in place is neither refused nor answered that
// there is no primary, as the heartbeats have not begun again: a load balancer would end sessions.

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

func TestHealthChecksOverRestarts(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "500ms", Timeout: "3s", Clusters: []*pgtest.Cluster{w.primary},
		Extra: "health_port0 = 8008\n"})
	cm.WaitInstance(0, "role", "primary")
	w.net.Jitter(client, w.db, 100*time.Millisecond) // a while goes by until heartbeats have begun
	web := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: client.Dialer().DialContext, DisableKeepAlives: true}}
	var checks, stop atomic.Int64
	failed := make(chan string, 1)
	go func() {
		defer close(failed)
		for stop.Load() == 0 {
			q, _ := http.NewRequest(http.MethodOptions, "http://127.0.0.1:8008/primary", http.NoBody)
			a, err := web.Do(q)
			if err == nil {
				a.Body.Close()
			}
			if err != nil || a.StatusCode != http.StatusOK {
				failed <- fmt.Sprint(a, err)
				return
			}
			checks.Add(1)
		}
	}()
	for range 3 {
		before := checks.Load()
		eventually(t, "a check is answered", func() (bool, string) {
			select {
			case why := <-failed:
				t.Fatalf("after %d checks: %s", before, why)
			default:
			}
			return checks.Load() > before, ""
		})
		cm.Become()
		cm.WaitInstance(0, "role", "primary")
	}
	stop.Store(1)
	if why, is := <-failed; is {
		t.Errorf("after %d checks: %s", checks.Load(), why)
	}
	t.Logf("%d checks", checks.Load())
}
