package test

// One server under two entries: its own address and one that floats between two servers.

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// TestFloatingAddress moves the address of instance 0 between the servers: with and without the
// death of its owner. Nothing healthy is ended, the log stays quiet, and who is bound by way of an
// address that leads elsewhere is told.
func TestFloatingAddress(t *testing.T) {
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	second := w.primary.Standby("second", pgtest.Host(db2))
	address := testnet.Floating(1)
	w.net.Assign(address, w.db)
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "500ms", Timeout: "2s", Extra: fmt.Sprintf(
		"backend_hostaddr0 = '%s'\nbackend_port0 = 5432\nbackend_hostaddr1 = '%s'\nbackend_port1 = 5432\n", address,
		db2.Addr4)})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	healthy := w.sessionAt(client, second.DSN())
	toStandby, start := cm.Bind("standby"), cm.Mark()
	onFirst := cm.Bind("primary")

	move := func(to, from *testnet.Host) {
		t.Helper()
		if from != nil {
			w.net.Withdraw(address, from)
		}
		w.net.Assign(address, to)
	}
	const told = `told 1 application connections of the loss of instance 0` // the last line of a loss
	// quiet checks that for some timeouts nothing is said, told or ended. All that the deed itself has
	// conmgr log must be there: applications are told, and SHOW answers, before its line is.
	quiet := func(what string) {
		t.Helper()
		mark, since := cm.Mark(), second.LogSize()
		waitQuiet(5 * time.Second)
		// What an application has just asked may be logged late; nothing else is to be said.
		if l, ok := cm.Find(mark, `(LOG|WARNING|ERROR|FATAL|DETAIL|HINT):|connecting to|heartbeat`); ok {
			t.Errorf("%s: conmgr goes on logging: %s", what, l.Text)
		}
		if log := second.Log()[since:]; strings.Contains(log, "terminated connections") {
			t.Errorf("%s: sessions of the standby were ended:\n%s", what, log)
		}
		if err := toStandby.Wait(time.Millisecond); err != nil {
			t.Errorf("%s: the standby's application was told: %v", what, err)
		}
		w.aliveOn(second, healthy, what)
	}

	t.Run("moves, and its owner lives", func(t *testing.T) {
		mark := cm.Mark()
		move(db2, w.db)
		if err := onFirst.Wait(patience); err == nil ||
			!contains(err.Error(), "57P01", "instance 0", "its address leads to another server now") {
			t.Errorf("the application by way of the floating address was told: %v", err)
		}
		cm.WaitInstance(0, "state", "duplicate")
		cm.WaitInstance(0, "detail", "same server as instance 1")
		if row := cm.Show("SHOW TARGET any")[0]; row["instance"] != "1" {
			t.Errorf("SHOW TARGET any: %v", row)
		}
		cm.WaitLog(mark, told, patience)
		quiet("a duplicate")
	})
	t.Run("moves back, and its owner lives", func(t *testing.T) {
		mark := cm.Mark()
		move(w.db, db2)
		cm.WaitLog(mark, "heartbeat connection is established: instance 0", patience)
		cm.WaitInstance(0, "state", "established")
		cm.WaitInstance(0, "role", "primary")
		onFirst = cm.Bind("primary")
		quiet("moved back")
		if err := onFirst.Wait(time.Millisecond); err != nil {
			t.Errorf("the primary's application was told: %v", err)
		}
	})
	t.Run("moves, and its owner is dead", func(t *testing.T) {
		mark := cm.Mark()
		dead := w.net.Isolate(w.db)
		move(db2, nil)
		if err := onFirst.Wait(patience); err == nil || !contains(err.Error(), "57P01", "instance 0", "is lost") {
			t.Errorf("the application of the dead server was told: %v", err)
		}
		cm.WaitInstance(0, "state", "duplicate")
		cm.WaitLog(mark, "is the same server as instance 1, whose heartbeats serve for both", patience)
		cm.WaitLog(mark, told, patience)
		quiet("the owner is dead")
		dead.Heal()
	})
	t.Run("the server in use dies, and the address moves", func(t *testing.T) {
		mark := cm.Mark()
		cut := w.net.Isolate(db2)
		move(w.db, nil)
		if err := toStandby.Wait(patience); err == nil ||
			!contains(err.Error(), "57P01", "instance 1", "no heartbeat for") {
			t.Errorf("the standby's application was told: %v", err)
		}
		lost := cm.WaitLog(mark, "instance 1 .* is lost", patience)
		back := cm.WaitLog(mark, "heartbeat connection is established: instance 0", patience)
		if d := back.At - lost.At; d > 2*time.Second { // it does not wait until it would look next
			t.Errorf("the floating address is used %v after the loss", d)
		}
		cut.Heal()
		cm.WaitInstance(1, "state", "established")
	})
	n := 0
	for _, l := range strings.Split(cm.Log(), "\n") {
		if strings.Contains(l, "is the same server as") {
			n++
		}
	}
	if n != 2 { // it became one twice
		t.Errorf("%d lines of duplicates since %d:\n%s", n, start, cm.Log())
	}
}

// TestTwoNamesOfOneServer: cm_ctl start --complete does not wait for a heartbeat connection that is
// not needed, and a restart of the server or of its worker leaves one entry that serves.
func TestTwoNamesOfOneServer(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	entry := func(n int, a netip.Addr) string {
		return fmt.Sprintf("backend_hostaddr%d = '%s'\nbackend_port%d = 5432\n", n, a, n)
	}
	c := newCtl(t, client, entry(0, w.db.Addr4)+entry(1, w.db.Addr6)+entry(2,
		w.db.Addr4)+"heartbeat_interval = 500ms\nheartbeat_timeout = 2s\nlog_min_messages = INFO\n")
	c.says(0, []string{"start", "--complete"}, "conmgr process is ready")
	one := func() (bool, string) {
		s := c.run(0, "status", "--json")
		return strings.Count(s, `"established"`) == 1 && strings.Count(s, `"duplicate"`) == 2, s + "\n" + c.log()
	}
	eventually(t, "one entry serves", one)
	s := w.session(client, "BEGIN")
	before := len(c.log())
	if err := syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker is back", func() (bool, string) {
		return strings.Contains(c.log()[before:], "heartbeat connection is established"), c.log()[before:]
	})
	eventually(t, "one entry serves", one)
	if strings.Contains(c.log()[before:], "is lost") {
		t.Errorf("a loss:\n%s", c.log()[before:])
	}
	w.alive(s, "a session")
	s.end()
	w.admin.Close()
	w.primary.Restart()
	eventually(t, "one entry serves", one)
	c.run(0, "stop")
}
