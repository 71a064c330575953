//go:build patroni

package patroni

// Four faults and a switchover under three writers. What is claimed: from the moment at which
// conmgr has heard that a server is the new primary, nothing is acknowledged to an application by
// the old one.

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// inFlight is how long after a promotion is known the answer to a statement of before may still
// come: conmgr's telling, and the scheduling of three processes on a busy machine.
const inFlight = 50 * time.Millisecond

type rig struct {
	*cluster
	app     *testnet.Host
	cm      *cmtest.Conmgr
	writers []*writer
	table   strings.Builder
}

func newRig(t *testing.T) *rig {
	r := &rig{cluster: newCluster(t)}
	r.waitHealthy().sql("CREATE EXTENSION watchdog; CREATE TABLE written (who text, number bigint, PRIMARY KEY (who, number))")
	r.app = r.net.Host("app")
	var conf strings.Builder
	for i, n := range r.nodes {
		fmt.Fprintf(&conf, "backend_hostaddr%d = '%s'\nbackend_port%d = 5432\n", i, n.host.Addr4, i)
	}
	fmt.Fprintf(&conf, "relay_port_read_write = %d\n", relayPort)
	r.cm = cmtest.Start(t, r.app, cmtest.Config{Interval: "1s", Timeout: "3s", Extra: conf.String()})
	for i := range r.nodes {
		r.cm.WaitInstance(i, "state", "established")
	}
	r.writers = startWriters(t, r.app, r.cm)
	return r
}

// round runs one fault, and looks at what the writers were told.
func (r *rig) round(name string, fault func(leader *node) (heal func())) {
	r.Helper()
	old := r.waitHealthy()
	r.waitWriters(old)
	mark, begin := r.cm.Mark(), testnet.Monotonic()
	heal := fault(old)
	next, known := r.waitPromotion(mark, old)
	r.waitWriters(next)
	writing := testnet.Monotonic()
	heal()
	if healthy := r.waitHealthy(); healthy != next {
		r.Fatalf("%s: %s is the leader, not %s", name, healthy.name, next.name)
	}
	for _, w := range r.writers {
		r.judge(name, w, old, next, begin, known, writing)
	}
}

// waitPromotion waits until conmgr has heard of a new primary.
func (r *rig) waitPromotion(mark int, old *node) (next *node, known time.Duration) {
	r.Helper()
	testkit.Eventually(r, patience, "conmgr hears of a new primary", func() (bool, string) {
		for _, n := range r.nodes {
			l, found := r.cm.Find(mark, `attribute of the instance\(host='`+n.host.Addr4.String()+`', port=5432\) is changed from 'standby.*to 'primary`)
			if n != old && found {
				next, known = n, l.At
				return true, ""
			}
		}
		return false, r.cm.Log()
	})
	return next, known
}

// waitWriters waits until all writers have written to a node since now.
func (r *rig) waitWriters(n *node) {
	r.Helper()
	from := testnet.Monotonic()
	for _, w := range r.writers {
		testkit.Eventually(r, patience, w.name+" writes to "+n.name, func() (bool, string) {
			for _, a := range w.since(from) {
				if a.server == n.host.Addr4.String() {
					return true, ""
				}
			}
			return false, w.lastError()
		})
	}
}

func (r *rig) judge(name string, w *writer, old, next *node, begin, known, writing time.Duration) {
	r.Helper()
	acks := w.since(begin) // before the rows are read: more are coming
	there := map[int]bool{}
	for _, s := range strings.Fields(next.sql("SELECT number FROM written WHERE who = '" + w.name + "'")) {
		n, _ := strconv.Atoi(s)
		there[n] = true
	}
	var first, lastOld, pause, previous time.Duration
	missing, late := 0, 0
	for _, a := range acks {
		if previous > 0 {
			pause = max(pause, a.at-previous)
		}
		previous = a.at
		switch {
		case a.server == next.host.Addr4.String() && first == 0:
			first = a.at - known
		case a.server == old.host.Addr4.String() && a.at <= writing:
			lastOld = a.at - known
		}
		if !there[a.number] {
			missing++
			if a.at > known {
				late++
			}
		}
	}
	if lastOld > inFlight {
		r.Errorf("%s: %s: the old primary acknowledged a row %v after the new one was known", name, w.name, lastOld)
	}
	row := fmt.Sprintf("| %s | %s | %d | %d | %d ms | %d ms | %.1f s |\n", name, w.name, missing, late,
		lastOld.Milliseconds(),
		first.Milliseconds(), pause.Seconds())
	r.Log(row)
	r.table.WriteString(row)
	if late > 1 { // one statement may have been on its way
		r.Errorf("%s: %s: %d rows that were acknowledged after the new primary was known are missing on it", name,
			w.name, late)
	}
}

func TestPatroni(t *testing.T) {
	r := newRig(t)
	rounds := 1
	if s := os.Getenv("ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	for range rounds {
		r.round("kill -9 of Patroni alone", func(n *node) func() {
			n.killAgent()
			return n.start
		})
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
		r.switchover(n)
		return func() {}
	})
	root, err := pgtest.SourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	head := "| what | by | acknowledged, then missing | of these after the promotion was known | last one by the old primary, from then | " +
		"first one by the new primary, from then | longest pause |\n| --- | --- | --- | --- | --- | --- | --- |\n"
	if err := os.WriteFile(filepath.Join(root, "build", "patroni.md"), []byte(head+r.table.String()),
		0o644); err != nil {
		t.Fatal(err)
	}
}
