package test

// An old primary that nobody has fenced wakes up beside the new one. While that is restarted,
// silent, or conmgr is restarted, nobody may be sent to the old one, and nothing that is written
// may be lost.

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// roundsVariable is how many failovers, or deaths of a host; seedVariable repeats the phases of an
// earlier run.
const (
	roundsVariable = "WATCHDOG_TEST_ROUNDS"
	seedVariable   = "WATCHDOG_TEST_SEED"
)

func numberFrom(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// rounds is for tests that need few, if nobody asks for more.
func rounds(t *testing.T, few uint64) int {
	t.Helper()
	return int(numberFrom(t, roundsVariable, few))
}

// pairOfServers are a primary and its standby, which change places.
type pairOfServers struct {
	*world
	cm      *cmtest.Conmgr
	servers [2]*pgtest.Cluster // by the number of their instance
	primary int
	writers []*writer
	random  *rand.Rand
}

// phase lets a random time pass.
func (p *pairOfServers) phase(most time.Duration) {
	time.Sleep(time.Duration(p.random.Int64N(int64(most))))
}

// TestOldPrimaryIsNeverOffered: writers by the front, the Go client and a relay port.
func TestOldPrimaryIsNeverOffered(t *testing.T) {
	rounds, seed := numberFrom(t, roundsVariable, 3), numberFrom(t, seedVariable, uint64(time.Now().UnixNano()))
	t.Logf("%s=%d %s=%d", seedVariable, seed, roundsVariable, rounds)
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	w.primary.Exec("CREATE TABLE written (name text, number int, PRIMARY KEY (name, number))")
	p := &pairOfServers{world: w, random: rand.New(rand.NewPCG(seed, 0)),
		servers: [2]*pgtest.Cluster{w.primary, w.primary.Standby("second", pgtest.Host(db2))}}
	p.cm = cmtest.Start(t, client, cmtest.Config{Interval: "200ms", Timeout: "1s", Clusters: p.servers[:],
		Extra: fmt.Sprintf("relay_port_read_write = %d\n", writerRelayPort)})
	p.cm.WaitInstance(0, "role", "primary")
	p.cm.WaitInstance(1, "role", "standby")
	p.writers = startWriters(t, client, p.cm)
	kinds := p.random.Perm(len(disturbances))
	for round := range int(rounds) {
		d := disturbances[kinds[round%len(kinds)]]
		t.Run(fmt.Sprintf("round %d: %s", round+1, d.name), func(t *testing.T) { p.round(t, round, d) })
		if t.Failed() {
			return
		}
	}
}

// disturbance of the new primary, and of conmgr, while the old one is awake. away is called while
// the new one is not there.
type disturbance struct {
	name string
	do   func(p *pairOfServers, current *pgtest.Cluster, number int, away func())
}

var disturbances = []disturbance{
	{"the new primary is restarted", func(p *pairOfServers, current *pgtest.Cluster, number int, away func()) {
		current.Stop(pgtest.Immediate)
		away()
		current.Start()
	}},
	{"the new primary is silent", func(p *pairOfServers, current *pgtest.Cluster, number int, away func()) {
		current.Freeze()
		p.cm.WaitInstance(number, "state", "lost")
		away()
		current.Thaw()
	}},
	{"conmgr is restarted while the new primary is stopped",
		func(p *pairOfServers, current *pgtest.Cluster, number int, away func()) {
			current.Stop(pgtest.Fast)
			p.phase(300 * time.Millisecond)
			p.cm.Restart([]syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[p.random.IntN(2)])
			away()
			current.Start()
		}},
	{"conmgr is restarted", func(p *pairOfServers, current *pgtest.Cluster, number int, away func()) {
		p.cm.Restart(syscall.SIGKILL)
	}},
}

// round fails over, wakes the old primary, disturbs, compares, and makes the old primary a standby.
func (p *pairOfServers) round(t *testing.T, round int, d disturbance) {
	number := 1 - p.primary
	old, current := p.servers[p.primary], p.servers[number]
	for _, w := range p.writers {
		w.waitWrites(t, testnet.Monotonic())
	}
	p.phase(500 * time.Millisecond)
	mark := p.cm.Mark()
	old.Freeze()
	p.cm.WaitInstance(p.primary, "state", "lost")
	current.Promote()
	known := p.cm.WaitLog(mark, fmt.Sprintf(`known of the set of instances: system identifier \d+, timeline %d of instance %d`, round+2, number), patience).At
	p.phase(500 * time.Millisecond)
	old.Thaw()
	p.cm.WaitInstance(p.primary, "state", "established")
	p.cm.WaitInstance(p.primary, "role", "primary")
	for _, w := range p.writers {
		w.waitWrites(t, known)
	}
	p.phase(500 * time.Millisecond)
	d.do(p, current, number, func() {
		p.cm.WaitInstance(p.primary, "state", "established")
		for _, a := range []string{"any", "read-write", "read-only", "primary", "standby", "prefer-standby"} {
			if row, err := p.cm.Try("SHOW TARGET " + a); err == nil {
				t.Errorf("SHOW TARGET %s: %v", a, row)
			}
		}
		p.phase(time.Second)
	})
	disturbed := testnet.Monotonic()
	for _, w := range p.writers {
		w.waitWrites(t, disturbed)
		t.Logf("%s: %d rows were acknowledged since the new primary was known", w.name, w.check(t, known, old, current))
	}
	for _, row := range p.cm.Show("SHOW INSTANCES") {
		if used := row["used_for"] != ""; used != (row["instance"] == strconv.Itoa(number)) {
			t.Errorf("SHOW INSTANCES: %v", row)
		}
	}
	old.Stop(pgtest.Immediate)
	p.servers[p.primary] = current.Standby(fmt.Sprintf("standby%d", round), pgtest.Host(old.Host()))
	p.cm.WaitInstance(p.primary, "role", "standby")
	p.primary = number
}

// TestSupersededIsTold: who is bound to a primary that lives on is told as soon as the new one is
// known, once, and nobody else is.
func TestSupersededIsTold(t *testing.T) {
	w := newWorld(t)
	client, db2, db3 := w.net.Host("client"), w.net.Host("db2"), w.net.Host("db3")
	w.primary.Exec("CREATE TABLE written (name text, number int, PRIMARY KEY (name, number))")
	second, third := w.primary.Standby("second", pgtest.Host(db2)), w.primary.Standby("third", pgtest.Host(db3))
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "200ms", Timeout: "10s",
		Clusters: []*pgtest.Cluster{w.primary, second, third},
		Extra:    fmt.Sprintf("relay_port_read_write = %d\ndestroy_sockets = on\n", writerRelayPort), NetAdmin: true})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	cm.WaitInstance(2, "role", "standby")
	writers := startWriters(t, client, cm)
	bound, reader := cm.Bind("read-write"), cm.Bind("standby")
	for _, x := range writers {
		x.waitWrites(t, 0)
	}
	_, direct := w.psql(client, w.primary.DSN()+" application_name=psql", "SELECT pg_sleep(600)")
	w.sleeping("psql", 1)
	stalls, mark := testkit.WatchStalls(), cm.Mark()
	second.Promote()
	if err := bound.Wait(patience); err == nil || !contains(err.Error(), "57P01", "instance 0",
		"superseded by instance 1, timeline 2") {
		t.Errorf("told: %v", err)
	}
	known := cm.WaitLog(mark, `known of the set of instances: .*timeline 2 of instance 1`, patience).At
	select {
	case text := <-direct:
		if !contains(text, "Software caused connection abort") {
			t.Errorf("a direct session: %s", text)
		}
	case <-time.After(patience):
		t.Error("a direct session goes on")
	}
	for _, x := range writers {
		x.waitWrites(t, known)
	}
	// The news takes its way to an application, during which that may send one more row.
	way := 200*time.Millisecond + 3*stalls.Longest()
	for _, x := range writers {
		t.Logf("%s: %d rows acknowledged", x.name, x.check(t, known+way, w.primary, second))
	}
	if err := reader.Wait(10 * time.Millisecond); err != nil {
		t.Errorf("the reader of a standby was told: %v", err)
	}
	cm.WaitInstance(0, "state", "established")
	row := cm.Show("SHOW INSTANCES")[0]
	if row["generation"] != "0" || row["used_for"] != "" ||
		!contains(row["not_used"], "a newer timeline is known, 2, seen at instance 1") {
		t.Errorf("SHOW INSTANCES: %v", row)
	}
}
