package pqcm_test

// Notifications with lib/pq's Listener, by way of a conmgr: what docs/drivers-go.md says of it,
// tried.

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/leak"
)

// byConmgr is a pq.Dialer: whatever address lib/pq wants, it goes where conmgr says.
type byConmgr struct{ *driver.Dialer }

func (d byConmgr) Dial(string, string) (net.Conn, error) { return d.Dialer.Dial(context.Background()) }

func (d byConmgr) DialTimeout(_, _ string, limit time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return d.Dialer.Dial(ctx)
}

func TestListener(t *testing.T) {
	leak.Check(t)
	s, err := scripted.New(pair.Instances()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	config, err := driver.ParseConfig(fmt.Sprintf("host=localhost port=%d target_session_attrs=primary", s.Port()))
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan pq.ListenerEventType, 100)
	l := pq.NewDialListener(byConmgr{&driver.Dialer{Config: config}}, "user=postgres sslmode=disable",
		10*time.Millisecond, time.Second,
		func(e pq.ListenerEventType, _ error) { events <- e })
	defer l.Close()
	await := func(want pq.ListenerEventType) {
		t.Helper()
		for limit := time.After(20 * time.Second); ; {
			select {
			case e := <-events:
				if e == want {
					return
				}
			case <-limit:
				t.Fatalf("event %d did not come", want)
			}
		}
	}
	if err := l.Listen("news"); err != nil {
		t.Fatal(err)
	}
	await(pq.ListenerEventConnected)
	s.Lose(0) // nothing is under way: the silent listener gets to know it
	await(pq.ListenerEventDisconnected)
	s.Set(pair.Instances()[0]) // promoted
	await(pq.ListenerEventReconnected)
	if n := s.Bound(0); n != 1 {
		t.Errorf("%d connections are bound", n)
	}
}
