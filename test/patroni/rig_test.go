//go:build patroni

package patroni

// The rig: a Patroni cluster, a client host with three writers, and one whose conmgr is patient.
// What is claimed of each fault: from the moment at which conmgr has heard that a server is the new
// primary, nothing is acknowledged to an application by the old one.

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

const (
	// inFlight is how long after a promotion is known the answer to a statement of before may still
	// come: conmgr's telling, and the scheduling of three processes on a busy machine.
	inFlight = 50 * time.Millisecond
	// prompt is the time within which a writer has written to a new primary that is known.
	prompt = 200 * time.Millisecond
)

type rig struct {
	*cluster
	cm      *cmtest.Conmgr // heartbeats 1 s, 3 s
	patient *cmtest.Conmgr // 10 s, 60 s; no grace for standbys of an older timeline
	writers []*writer
	table   strings.Builder
	told    strings.Builder
}

func newRig(t *testing.T) *rig {
	r := &rig{cluster: newCluster(t)}
	r.waitHealthy().sql("CREATE EXTENSION watchdog; " +
		"CREATE TABLE written (who text, number bigint, PRIMARY KEY (who, number))")
	app, other := r.net.Host("app"), r.net.Host("other")
	var conf strings.Builder
	for i, n := range r.nodes {
		fmt.Fprintf(&conf, "backend_hostaddr%d = '%s'\nbackend_port%d = 5432\n", i, n.host.Addr4, i)
	}
	r.cm = cmtest.Start(t, app, cmtest.Config{Interval: "1s", Timeout: "3s",
		Extra: conf.String() + fmt.Sprintf("relay_port_read_write = %d\n", relayPort)})
	r.patient = cmtest.Start(t, other, cmtest.Config{Interval: "10s", Timeout: "60s",
		Extra: conf.String() + "standby_timeline_grace = 0\n"})
	for i := range r.nodes {
		r.cm.WaitInstance(i, "state", "established")
		r.patient.WaitInstance(i, "state", "established")
	}
	r.writers = startWriters(t, app, r.cm)
	return r
}

// round runs one fault, and looks at what the writers were told.
func (r *rig) round(name string, fault func(leader *node) (heal func())) {
	r.Helper()
	old := r.waitHealthy()
	r.waitWriters(old)
	bound := r.patient.Bind("read-write")
	told := make(chan error, 1)
	var toldAt time.Duration
	go func() {
		err := bound.Wait(patience)
		toldAt = testnet.Monotonic()
		told <- err
	}()
	stalls := testkit.WatchStalls()
	mark, begin := r.cm.Mark(), testnet.Monotonic()
	heal := fault(old)
	next, known := r.waitPromotion(mark, old)
	r.waitWriters(next)
	stall := stalls.Longest()
	onOld := r.rowsOn(old) // before it is rewound
	heal()
	outdated := r.outdatedStandbys()
	if healthy := r.waitHealthy(); healthy != next {
		r.Fatalf("%s: %s is the leader, not %s", name, healthy.name, next.name)
	}
	counts := outdated()
	var sent [][]row
	for _, w := range r.writers { // before the rows are read: more are coming
		sent = append(sent, w.since(begin))
	}
	onNext := r.rowsOn(next)
	for i, w := range r.writers {
		r.judge(name, w.name, sent[i], next, onOld[w.name], onNext[w.name], begin, known, stall)
	}
	err := <-told
	text := fmt.Sprintf("| %s | %d ms | %v | %d | %d |\n", name, (toldAt - known).Milliseconds(), err, counts[0],
		counts[1])
	r.Log(text)
	r.told.WriteString(text)
	if err == nil {
		r.Errorf("%s: a bound connection was not told", name)
	}
	if counts[1] > 0 {
		r.Errorf("%s: a standby of an older timeline was offered without a grace", name)
	}
}

// waitPromotion waits until conmgr has heard of a new primary.
func (r *rig) waitPromotion(mark int, old *node) (next *node, known time.Duration) {
	r.Helper()
	testkit.Eventually(r, patience, "conmgr hears of a new primary", func() (bool, string) {
		for _, n := range r.nodes {
			l, found := r.cm.Find(mark, `attribute of the instance\(host='`+n.host.Addr4.String()+
				`', port=5432\) is changed from 'standby.*to 'primary`)
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
		testkit.Eventually(r, patience, w.name+" writes to "+n.name,
			func() (bool, string) { return w.wrote(n.host.Addr4.String(), from), w.lastError() })
	}
}

// rowsOn are the numbers of the rows that a node has, of each writer. Patroni may be restarting it.
func (r *rig) rowsOn(n *node) map[string]map[int]bool {
	r.Helper()
	var out string
	testkit.Eventually(r, patience, n.name+" is read", func() (bool, string) {
		var err error
		out, err = n.psql("SELECT who || ' ' || number FROM written")
		return err == nil, fmt.Sprint(err)
	})
	rows := map[string]map[int]bool{}
	for _, line := range strings.Split(out, "\n") {
		who, number, _ := strings.Cut(line, " ")
		if rows[who] == nil {
			rows[who] = map[int]bool{}
		}
		n, _ := strconv.Atoi(number)
		rows[who][n] = true
	}
	return rows
}

// outdatedStandbys counts, until it is called again, how often each conmgr would have sent somebody
// to a standby of an older timeline: such a one may still have what was lost.
func (r *rig) outdatedStandbys() func() [2]int {
	stop, done := make(chan struct{}), make(chan [2]int)
	go func() {
		var counts [2]int
		for {
			for i, cm := range []*cmtest.Conmgr{r.cm, r.patient} {
				counts[i] += outdated(cm)
			}
			select {
			case <-stop:
				done <- counts
				return
			case <-time.After(50 * time.Millisecond): // a sample, not a wait
			}
		}
	}()
	return func() [2]int { close(stop); return <-done }
}

func outdated(cm *cmtest.Conmgr) (count int) {
	list, _ := cm.Try("SHOW INSTANCES")
	highest := 0
	for _, row := range list {
		timeline, _ := strconv.Atoi(row["timeline"])
		highest = max(highest, timeline)
	}
	for _, row := range list {
		timeline, _ := strconv.Atoi(row["timeline"])
		if row["used_for"] != "" && timeline > 0 && timeline < highest {
			count++
		}
	}
	return count
}

// judge looks at what became of the rows that one writer has sent.
func (r *rig) judge(name, by string, sent []row, next *node, onOld, onNext map[int]bool,
	begin, known, stall time.Duration) {
	r.Helper()
	var first, pause, last time.Duration
	previous := begin
	before, crossing, after, outdated := 0, 0, 0, 0
	for _, x := range sent {
		lost := x.acked > 0 && !onNext[x.number]
		if lost && x.acked <= known {
			before++
		} else if lost && x.sent <= known {
			crossing++
			last = max(last, x.acked-known)
		} else if lost {
			after++
			last = max(last, x.acked-known)
		}
		if x.sent > known && onOld[x.number] && !onNext[x.number] {
			outdated++
			last = max(last, x.sent-known)
		}
		if x.acked > 0 {
			pause = max(pause, x.acked-previous)
			previous = x.acked
		}
		if x.server == next.host.Addr4.String() && first == 0 {
			first = x.acked - known
		}
	}
	line := fmt.Sprintf("| %s | %s | %d | %d | %d | %d | %d ms | %.1f s | %d ms |\n", name, by, before, crossing, after,
		outdated, first.Milliseconds(), pause.Seconds(), stall.Milliseconds())
	r.Log(line)
	r.table.WriteString(line)
	if last > inFlight+stall || crossing+after > 1 { // one statement may have been on its way
		r.Errorf("%s: %s: the old primary was still written to %v after the new one was known", name, by, last)
	}
	if first > prompt+stall {
		r.Errorf("%s: %s: the first row on the new primary came %v after that was known", name, by, first)
	}
}

// report writes build/patroni.md.
func (r *rig) report() {
	root, err := pgtest.SourceRoot()
	if err != nil {
		r.Fatal(err)
	}
	text := "| fault | by | acknowledged before the promotion was known, then missing | " +
		"acknowledged after it, sent before | sent after it, acknowledged by the old primary | " +
		"sent after it, on the old primary | first row on the new primary, from then | longest pause | " +
		"stall of the machine |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n" + r.table.String() +
		"\n| fault | bound with heartbeat_timeout 60 s: told, from then | as | " +
		"outdated standby offered in samples of 50 ms, grace 60 s | grace 0 |\n" +
		"| --- | --- | --- | --- | --- |\n" + r.told.String()
	if err := os.WriteFile(filepath.Join(root, "build", "patroni.md"), []byte(text), 0o644); err != nil {
		r.Fatal(err)
	}
}
