package test

// Planned switchovers, and deaths of the primary, under applications that wait for an instance and
// heed drains (load_test.go): nothing is lost that need not be.

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// switching is two servers that change places, under load.
type switching struct {
	*world
	cm      *cmtest.Conmgr
	servers [2]*pgtest.Cluster // by the number of their instance
	primary int
	client  *testnet.Host
	loads   []*load
}

func newSwitching(t *testing.T, options string) *switching {
	w := newWorld(t, pgtest.Set("wal_retrieve_retry_interval", "100ms")) // for which a promotion may have to wait
	s := &switching{world: w, client: w.net.Host("client")}
	w.primary.Exec("CREATE TABLE counters (name text, client int, n bigint, PRIMARY KEY (name, client))")
	w.primary.Exec(`INSERT INTO counters SELECT name, client, 0
		FROM unnest(ARRAY['pgxpool', 'database/sql']) name, generate_series(0, $1) client`, loadClients-1)
	s.servers = [2]*pgtest.Cluster{w.primary, w.primary.Standby("second", pgtest.Host(w.net.Host("db2")))}
	s.cm = cmtest.Start(t, s.client, cmtest.Config{Interval: "100ms", Timeout: "1s", Clusters: s.servers[:]})
	s.cm.WaitInstance(0, "role", "primary")
	s.cm.WaitInstance(1, "role", "standby")
	w.admin.Close()
	s.loads = startLoads(t, s.client, s.cm, options)
	s.busy()
	return s
}

// busy waits until all loads commit.
func (s *switching) busy() {
	s.Helper()
	before := make([]int, len(s.loads))
	for i, l := range s.loads {
		before[i] = s.counted(l)
	}
	for i, l := range s.loads {
		eventually(s, l.pool+" commits", func() (bool, string) {
			n := s.counted(l) - before[i]
			return n >= 10*loadClients, fmt.Sprintf("%d transactions", n)
		})
	}
}

// sessionsOf counts the sessions of the loads on a server.
func (s *switching) sessionsOf(c *pgtest.Cluster) string {
	s.Helper()
	return c.Value(`SELECT count(*) FROM pg_stat_activity
		WHERE client_addr = $1::inet AND backend_type = 'client backend'`, s.client.Addr4.String())
}

// settle begins a new report for each load.
func (s *switching) settle() {
	for _, l := range s.loads {
		l.report(s.T, false)
	}
}

// TestPlannedSwitchover: drain, wait until nobody is left, stop, promote, and the old primary comes
// back as a standby. No transaction fails, and none that was committed is missing.
func TestPlannedSwitchover(t *testing.T) {
	s := newSwitching(t, "-c conmgr.target_wait=30s")
	for round := range rounds(t, 2) {
		s.settle()
		s.busy()
		number := 1 - s.primary
		old, next := s.servers[s.primary], s.servers[number]
		begun, stalls := time.Now(), testkit.WatchStalls()
		old.Exec("SELECT watchdog_drain(true)") // until it is restarted
		eventually(t, "nobody is left", func() (bool, string) {
			n := s.sessionsOf(old)
			return n == "0", n + " sessions"
		})
		empty := time.Now()
		old.Stop(pgtest.Fast)
		stopped := time.Now()
		next.Promote()
		promoted := time.Now()
		s.moves(next, number)
		s.busy()
		stall := stalls.Longest()
		for _, l := range s.loads {
			r := l.report(t, false)
			t.Logf("round %d, %s: %v; drained in %v, stopped in %v, promoted in %v", round+1, l.pool, r,
				empty.Sub(begun).Round(time.Millisecond), stopped.Sub(empty).Round(time.Millisecond),
				promoted.Sub(stopped).Round(time.Millisecond))
			if r.Failed+r.NotConnected > 0 {
				t.Errorf("%s: %d transactions have failed, and %d had no connection: %q", l.pool, r.Failed, r.NotConnected,
					r.Errors)
			}
			if most := promoted.Sub(begun); r.Pause > most+time.Second+3*stall { // 100 ms on a machine of one's own
				t.Errorf("%s: the longest pause is %v, and the switchover took %v (this machine stalled for up to %v)", l.pool,
					r.Pause, most, stall)
			}
		}
		old.Follow(next)
		s.cm.WaitInstance(1-number, "role", "standby")
	}
	s.end(true)
}

// moves: the primary is another one.
func (s *switching) moves(next *pgtest.Cluster, number int) {
	s.world.primary, s.primary = next, number
}

// end stops the loads. exact: each transaction that was committed, and no other one, is there.
func (s *switching) end(exact bool) {
	s.Helper()
	for _, l := range s.loads {
		l.report(s.T, true)
		if n := s.counted(l); exact && n != l.total {
			s.Errorf("%s: %d transactions were committed, and %d are there", l.pool, l.total, n)
		}
	}
}

// TestPrimaryDies: kill -9 of the primary, and the standby is promoted. What fails is what was under
// way, at most one transaction a client, and every connection waits for the new primary.
func TestPrimaryDies(t *testing.T) {
	s := newSwitching(t, "-c conmgr.target_wait=10s")
	for round := range rounds(t, 2) {
		s.settle()
		s.busy()
		number := 1 - s.primary
		old, next := s.servers[s.primary], s.servers[number]
		begun := time.Now()
		old.Kill9()
		killed := time.Now()
		next.Promote()
		promoted := time.Now()
		s.moves(next, number)
		s.busy()
		for _, l := range s.loads {
			r := l.report(t, false)
			t.Logf("round %d, %s: %v; killed in %v, promoted in %v", round+1, l.pool, r,
				killed.Sub(begun).Round(time.Millisecond), promoted.Sub(killed).Round(time.Millisecond))
			if r.NotConnected > 0 || r.Failed > loadClients {
				t.Errorf("%s: %d transactions have failed, and %d had no connection: %q", l.pool, r.Failed, r.NotConnected,
					r.Errors)
			}
			if r.LastFailed.After(killed) {
				t.Errorf("%s: a transaction has failed that began %v after the death: %q", l.pool,
					r.LastFailed.Sub(killed).Round(time.Microsecond), r.Errors)
			}
		}
		s.servers[1-number] = next.Standby(fmt.Sprintf("standby%d", round), pgtest.Host(old.Host()))
		s.cm.WaitInstance(1-number, "role", "standby")
	}
	s.end(false)
}
