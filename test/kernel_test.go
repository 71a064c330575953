package test

// The kernel as a second witness: a host whose heartbeats are silent, and whose sessions are not.

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// traffic keeps a session busy, a statement each 50 ms, until it fails.
func (s *session) traffic(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := s.conn.ExecContext(ctx, "SELECT 1"); err != nil {
				ended <- err
				return
			}
			<-tick.C
		}
	}()
	return ended
}

const suspended = `heartbeat is timed out, but its host is heard of: conmgr host=%s`

// closedFor is how long the port is closed: a minute in a long run.
func closedFor() time.Duration {
	if os.Getenv(roundsVariable) != "" {
		return time.Minute
	}
	return 3 * time.Second
}

// TestHeartbeatPortClosed: a firewall closes the heartbeat port for a while in which sessions work:
// none of that host ends. Then the host dies: all end, timeout after its last packet.
func TestHeartbeatPortClosed(t *testing.T) {
	w := newWorld(t)
	for _, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			w := w.in(t)
			client := w.net.Host("client_" + family)
			dsn := w.primary.DSN()
			if family == "IPv6" {
				dsn = w.primary.DSNOf(w.db.Addr6.String(), "postgres")
			}
			const timeout = time.Second
			address := client.Addr4
			if family == "IPv6" {
				address = client.Addr6
			}
			cm := cmtest.Start(w, client, cmtest.Config{Interval: "250ms", Timeout: timeout.String(),
				Clusters: []*pgtest.Cluster{w.primary}, IPv6: family == "IPv6"})
			cm.WaitInstance(0, "state", "established")
			idle, busy := w.sessionAt(client, dsn, "BEGIN"), w.sessionAt(client, dsn)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ended := busy.traffic(ctx)
			since := w.primary.LogSize()
			closed := w.net.CutPort(client, w.db, pgtest.WatchdogPort)
			w.primary.WaitLog(since, fmt.Sprintf(suspended, address), patience)
			stalls := testkit.WatchStalls() // one that began before the cut makes the last packet earlier
			waitQuiet(closedFor())          // the fault's length: nothing to wait for
			// Those of the subtest before may be logged after they have ended.
			w.noLog(since, `terminated connections: ipaddress="`+address.String()+`"`)
			if n := w.primary.Value("SELECT coalesce(max(suspended_count), -1) FROM pgx_stat_watchdog"); n == "0" {
				t.Error("pgx_stat_watchdog does not count that the verdict was suspended")
			}
			select {
			case err := <-ended:
				t.Fatalf("the busy session ends while its host works: %v", err)
			default:
			}
			for _, s := range []*session{idle, busy} {
				if !w.exists(s.pid) {
					t.Errorf("session %d of a host that works is gone", s.pid)
				}
			}
			cut := w.net.Isolate(client)
			last := testnet.Monotonic()
			at := w.waitGone(busy.pid, patience, "the busy session of a dead host")
			w.waitGone(idle.pid, patience, "the idle session of a dead host")
			took, stall := at-last, stalls.Longest()
			t.Logf("the sessions end %v after the last packet (this machine stalled for up to %v)", took, stall)
			if took < timeout-100*time.Millisecond-stall || took > timeout+200*time.Millisecond+3*stall {
				t.Errorf("the sessions end %v after the last packet, want %v", took, timeout)
			}
			cm.Signal(9)
			closed.Heal()
			cut.Heal()
		})
	}
}

// TestKernelEvidenceOff: as without it, and as soon as it is set.
func TestKernelEvidenceOff(t *testing.T) {
	w := newWorld(t)
	w.primary.Configure("watchdog.kernel_evidence", "off")
	w.primary.Reload()
	client := w.net.Host("client")
	w.conmgr(client, "250ms", "1s")
	busy := w.session(client)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	busy.traffic(ctx)
	since := w.primary.LogSize()
	w.net.CutPort(client, w.db, pgtest.WatchdogPort)
	w.waitGone(busy.pid, patience, "the session of a host whose heartbeats are silent")
	w.noLog(since, "its host is heard of")
}
