//go:build patroni

package patroni

// The faults, and a planned switchover, under three writers.

import (
	"os"
	"strconv"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

func TestPatroni(t *testing.T) {
	r := newRig(t)
	rounds := 1
	if s := os.Getenv("ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	killAgent := func(n *node) func() {
		n.killAgent()
		return n.start
	}
	for range rounds {
		r.round("kill -9 of Patroni alone", killAgent)
	}
	r.round("the leader's host is cut off", func(n *node) func() {
		cut := r.net.Isolate(n.host)
		return func() { cut.Heal() }
	})
	r.round("the leader is cut off from the store and the others", func(n *node) func() {
		faults := []*testnet.Fault{r.net.Cut(n.host, r.dcs)}
		for _, o := range r.nodes {
			if o != n {
				faults = append(faults, r.net.Cut(n.host, o.host))
			}
		}
		return func() {
			for _, f := range faults {
				f.Heal()
			}
		}
	})
	r.round("switchover", func(n *node) func() {
		r.ctl("switchover", "--master", n.name, "--force")
		return func() {}
	})
	r.ctl("edit-config", "--force", "--quiet", "-s", "synchronous_mode=true")
	leader := r.waitHealthy()
	testkit.Eventually(r, patience, "a standby is synchronous", func() (bool, string) {
		s, err := leader.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")
		return err == nil && s != "0", s
	})
	r.round("kill -9 of Patroni alone, synchronous_mode", killAgent)
	r.report()
}
