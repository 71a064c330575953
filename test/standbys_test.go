package test

// The choice among standbys: spread over those that follow, and none that is paused, far behind, or
// cut off from its primary.

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// standbys are a primary, instance 0, and four standbys, and conmgrs with different limits.
type standbys struct {
	*world
	all            []*pgtest.Cluster
	client         *testnet.Host // of bytes
	bytes, seconds *cmtest.Conmgr
}

func newStandbys(t *testing.T) *standbys {
	s := &standbys{world: newWorld(t, pgtest.Set("wal_keep_size", "1GB"), pgtest.Set("max_wal_size", "1GB"),
		pgtest.Set("autovacuum", "off"))}
	s.all = []*pgtest.Cluster{s.primary}
	for i := 1; i <= 4; i++ {
		name := fmt.Sprintf("db%d", i)
		s.all = append(s.all, s.primary.Standby(name, pgtest.Host(s.net.Host(name))))
	}
	s.client = s.net.Host("client")
	start := func(host *testnet.Host, extra string) *cmtest.Conmgr {
		cm := cmtest.Start(t, host, cmtest.Config{Interval: "200ms", Timeout: "2s", Clusters: s.all, Extra: extra})
		for i := range s.all {
			cm.WaitInstance(i, "state", "established")
		}
		return cm
	}
	s.bytes = start(s.client, "standby_max_lag = '16MB'\nrelay_port_standby = 5433")
	s.seconds = start(s.net.Host("client2"), "standby_max_lag = '4s'")
	return s
}

// follow waits until a conmgr offers these standbys, and no others.
func (s *standbys) follow(t *testing.T, cm *cmtest.Conmgr, want ...int) {
	t.Helper()
	eventually(t, fmt.Sprintf("standbys %v are offered, and no others", want), func() (bool, string) {
		offered := map[string]bool{}
		rows := cm.Show("SHOW INSTANCES")
		for _, row := range rows[1:] {
			if contains(row["used_for"], "standby") {
				offered[row["instance"]] = true
			}
			if (row["used_for"] == "") != (row["not_used"] != "") {
				t.Errorf("used for %q, not used: %q", row["used_for"], row["not_used"])
			}
		}
		for _, i := range want {
			if !offered[strconv.Itoa(i)] {
				return false, fmt.Sprint(rows)
			}
		}
		return len(offered) == len(want), fmt.Sprint(rows)
	})
}

// connects asks n times, and returns how often it got which. held: the connections stay.
func connects(cm *cmtest.Conmgr, attribute string, n int, held bool) map[string]int {
	got := map[string]int{}
	for range n {
		b := cm.Bind(attribute)
		got[b.Target["instance"]]++
		if !held {
			b.Close()
		}
	}
	return got
}

func TestStandbysAreChosenWell(t *testing.T) {
	s := newStandbys(t)
	s.follow(t, s.bytes, 1, 2, 3, 4)
	s.follow(t, s.seconds, 1, 2, 3, 4)
	bound := map[string]*cmtest.Bound{}
	for range 12 { // which count there only: at s.bytes, all standbys have as many connections
		b := s.seconds.Bind("standby")
		bound[b.Target["instance"]] = b
	}
	if len(bound) != 4 {
		t.Fatalf("12 connections for 4 standbys are bound to %d", len(bound))
	}

	t.Run("another reader of the protocol", func(t *testing.T) {
		for _, x := range []struct {
			version, welcome, beat string
		}{
			{"1", "welcome version=1 flags=2$", "beat 1 flags=1 timeline=1$"},
			{"2", `welcome version=2 flags=2 lag=\d+/\d+$`, `beat 1 flags=1 timeline=1 echo=\d lag=\d+/\d+$`},
		} {
			p := s.in(t).pythonOf(s.all[4], s.net.Host("python"+x.version), "--version", x.version)
			for _, want := range []string{"hello", x.welcome, x.beat} {
				if line := <-p.lines; !regexp.MustCompile("^" + want).MatchString(line) {
					t.Errorf("version %s: %q, want %q", x.version, line, want)
				}
			}
		}
	})
	t.Run("paused, while nothing is written", func(t *testing.T) {
		writer := s.primary.Worker("background writer") // but for it
		if err := unix.Kill(writer, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer unix.Kill(writer, unix.SIGCONT)
		eventually(t, "all is replayed", func() (bool, string) {
			row := s.seconds.Show("SHOW INSTANCES")[1]
			return row["lag_bytes"] == "0" && row["lag_ms"] == "0", fmt.Sprint(row)
		})
		s.all[1].Exec("SELECT pg_wal_replay_pause()")
		s.all[2].Configure("recovery_min_apply_delay", "1h") // for what comes next
		s.all[2].Reload()
		s.follow(t, s.seconds, 2, 3, 4)
		s.follow(t, s.bytes, 1, 2, 3, 4)
		if row := s.seconds.Show("SHOW INSTANCES")[1]; row["lag_bytes"] != "0" {
			t.Errorf("something was written: %v", row)
		}
	})
	t.Run("one paused and one far behind", func(t *testing.T) {
		s.write64MB()
		s.follow(t, s.bytes, 3, 4)
		s.follow(t, s.seconds, 3, 4)
		for _, held := range []bool{false, true} {
			got := connects(s.bytes, "standby", 1000, held)
			t.Logf("1000 connections, held: %v: %v", held, got)
			if got["3"]+got["4"] != 1000 || got["3"] < 400 || got["3"] > 600 {
				t.Errorf("1000 connections for a standby, held: %v: %v", held, got)
			}
		}
		for _, attribute := range []string{"read-only", "prefer-standby", "prefer-read"} {
			if got := connects(s.bytes, attribute, 50, false); got["3"]+got["4"] != 50 {
				t.Errorf("%s: %v", attribute, got)
			}
		}
		s.relayed(t)
		for i, b := range bound {
			if err := b.Wait(10 * time.Millisecond); err != nil {
				t.Errorf("what was bound to instance %s before is told: %v", i, err)
			}
		}
	})
	t.Run("all behind", func(t *testing.T) {
		for _, i := range []int{3, 4} {
			s.all[i].Exec("SELECT pg_wal_replay_pause()")
		}
		s.write64MB()
		for _, cm := range []*cmtest.Conmgr{s.bytes, s.seconds} {
			s.follow(t, cm)
			_, err := cm.Try("SHOW TARGET standby")
			if err == nil || !contains(err.Error(), "no target server address") {
				t.Errorf("a standby where all are behind: %v", err)
			}
			if got := connects(cm, "prefer-standby", 20, false); got["0"] != 20 {
				t.Errorf("prefer-standby where all are behind: %v", got)
			}
		}
		if got := connects(s.bytes, "standby LAG '1GB'", 20, false); len(got) < 2 || got["0"] > 0 {
			t.Errorf("with a limit of its own: %v", got)
		}
		if _, err := s.bytes.Try("SHOW TARGET any LAG 1kB EXCEPT 0"); err == nil {
			t.Error("with a limit of its own, which all exceed")
		}
		if why := s.bytes.Show("SHOW INSTANCES")[3]["not_used"]; !contains(why, "it is a standby that is 65 MB and ", "standby_max_lag is 16MB") {
			t.Errorf("not used: %s", why)
		}
	})
	t.Run("they follow again", func(t *testing.T) {
		for _, i := range []int{1, 3} {
			s.all[i].Exec("SELECT pg_wal_replay_resume()")
		}
		s.follow(t, s.bytes, 1, 3)
		s.follow(t, s.seconds, 1, 3)
	})
	t.Run("no walreceiver", func(t *testing.T) {
		s.all[3].Exec("ALTER SYSTEM SET primary_conninfo = ''")
		s.all[3].Reload()
		s.follow(t, s.bytes, 1)
		s.follow(t, s.seconds, 1)
		if why := s.bytes.Show("SHOW INSTANCES")[3]["not_used"]; !contains(why, "behind by what is not known") {
			t.Errorf("not used: %s", why)
		}
	})
}

// write64MB makes the primary write as much, after a transaction at which a standby that delays
// transactions stops.
func (s *standbys) write64MB() {
	s.Helper()
	s.primary.Exec("CREATE TABLE IF NOT EXISTS t (a int)")
	s.primary.Exec("INSERT INTO t VALUES (1)")
	s.primary.Exec("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1024 * 1024)) FROM generate_series(1, 65)")
}

// relayed: a relay port chooses in the same way.
func (s *standbys) relayed(t *testing.T) {
	t.Helper()
	got := map[string]int{}
	for range 20 {
		db := s.primary.OpenAt(s.client, "host=127.0.0.1 port=5433 user=postgres dbname=postgres sslmode=disable")
		var addr string
		if err := db.QueryRow("SELECT host(inet_server_addr())").Scan(&addr); err != nil {
			t.Fatal(err)
		}
		got[addr]++
		db.Close()
	}
	if n := got[s.all[3].Addr().String()] + got[s.all[4].Addr().String()]; n != 20 || len(got) != 2 {
		t.Errorf("20 relayed connections: %v", got)
	}
}
