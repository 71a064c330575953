package test

// The life of one server as its conmgr sees it: stopped in every mode, killed, restarted, reset
// after a crash, made read only.

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	terminatorTitle = "terminator worker"
	flagsHang       = 0xFA170006 // see worker/faults_on.go
)

// took is how long fn took.
func took(fn func()) time.Duration {
	start := testnet.Monotonic()
	fn()
	return testnet.Monotonic() - start
}

// modes are the ways in which a server ends.
var modes = []struct {
	name string
	end  func(*pgtest.Cluster)
}{
	{"smart", func(c *pgtest.Cluster) { c.Stop(pgtest.Smart) }},
	{"fast", func(c *pgtest.Cluster) { c.Stop(pgtest.Fast) }},
	{"immediate", func(c *pgtest.Cluster) { c.Stop(pgtest.Immediate) }},
	{"postmaster killed", func(c *pgtest.Cluster) { c.Kill9() }},
}

// TestShutdownIsNotDelayed: with a connected conmgr a server ends as quickly as without the
// extension and leaves no process behind, even while the heartbeat thread hangs. A worker that is
// stopped altogether is the one thing that a shutdown waits for, as for any stopped process.
func TestShutdownIsNotDelayed(t *testing.T) {
	const allowance = time.Second
	plain := pgtest.New(t, pgtest.Named("plain"))
	w := newWorld(t, pgtest.Faults())
	w.admin.SetMaxIdleConns(0) // a smart shutdown would wait for it
	cm := cmtest.Start(t, w.net.Host("client"), cmtest.Config{Interval: "1s", Timeout: "20s",
		Clusters: []*pgtest.Cluster{w.primary}})

	end := func(t *testing.T, end func(*pgtest.Cluster), limit time.Duration) {
		with := took(func() { end(w.primary) })
		if left := w.primary.Processes(); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
		if with > limit {
			t.Errorf("the server took %v to end, want at most %v", with, limit)
		}
		w.primary.Start()
	}
	for _, m := range modes {
		without := took(func() { m.end(plain) })
		plain.Start()
		t.Run(m.name, func(t *testing.T) {
			cm.WaitInstance(0, "state", "established")
			end(t, m.end, without+allowance)
		})
		t.Run(m.name+", the heartbeat thread hangs", func(t *testing.T) {
			w.in(t).hangs()
			end(t, m.end, without+allowance)
		})
	}
	t.Run("immediate, the worker is stopped", func(t *testing.T) {
		cm.WaitInstance(0, "state", "established")
		if err := syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		// the postmaster's patience with children
		end(t, func(c *pgtest.Cluster) { c.Stop(pgtest.Immediate) }, 5*time.Second+2*allowance)
	})
}

// hangs makes the heartbeat thread hang, and returns when it does.
func (w *world) hangs() {
	w.Helper()
	w.requestFault(flagsHang)
	// the turn that hangs may still answer others first
	eventually(w, "the heartbeat thread is silent", func() (bool, string) {
		conn := w.dialHeartbeat()
		defer conn.Close()
		_, _ = conn.Write([]byte("no HELLO"))
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := conn.Read(make([]byte, 64))
		return n == 0, fmt.Sprintf("%d bytes, %v", n, err)
	})
}

// TestServerLife: all that can happen to a server within a heartbeat_timeout of 20 s. None of it
// has to wait for that timeout.
func TestServerLife(t *testing.T) {
	w := newWorld(t)
	w.admin.SetMaxIdleConns(0)
	client := w.net.Host("client")
	cm := w.conmgr(client, "1s", "20s")
	const soon = 5 * time.Second // far less than 20 s

	// lost checks that an application is told of the loss of the server for a reason, soon.
	lost := func(t *testing.T, bound *cmtest.Bound, mark int, start time.Duration, reason string) {
		t.Helper()
		if err := bound.Wait(patience); err == nil || !contains(err.Error(), "FATAL 57P01", "is lost", reason) {
			t.Errorf("the application was told: %v", err)
		}
		if l := cm.WaitLog(mark, `is lost: `+reason, patience); l.At-start > soon {
			t.Errorf("conmgr knew after %v: %s", l.At-start, l.Text)
		}
	}
	unused := func(t *testing.T) {
		t.Helper()
		eventually(t, "the instance is not offered any more", func() (bool, string) {
			_, err := cm.Try("SHOW TARGET any")
			return err != nil && contains(err.Error(), "no target server address from Connection Manager"), fmt.Sprint(err)
		})
	}
	back := func(t *testing.T) {
		t.Helper()
		cm.WaitInstance(0, "state", "established")
		cm.WaitInstance(0, "generation", "0")
		if row := cm.Show("SHOW TARGET read-write")[0]; row["hostaddr"] != w.db.Addr4.String() {
			t.Errorf("SHOW TARGET read-write: %v", row)
		}
		w.in(t).waitView(1)
	}

	t.Run("fast stop", func(t *testing.T) {
		bound, mark, start := cm.Bind("read-write"), cm.Mark(), testnet.Monotonic()
		w.primary.Stop(pgtest.Fast)
		cm.WaitLog(mark, `remote node shuts down heartbeat connection`, patience)
		unused(t) // the log comes first
		if l := cm.WaitLog(mark, `the server has shut down`, patience); l.At-start > soon {
			t.Errorf("conmgr knew after %v: %s", l.At-start, l.Text)
		}
		cm.WaitInstance(0, "state", "stopped")
		// its own connection has ended: by the server's kernel
		if err := bound.Wait(10 * time.Millisecond); err != nil {
			t.Errorf("the application was told: %v", err)
		}
		start = testnet.Monotonic()
		w.primary.Start()
		lost(t, bound, mark, start, "the server was restarted")
		back(t)
	})
	t.Run("immediate stop and start", func(t *testing.T) {
		bound, mark, start := cm.Bind("primary"), cm.Mark(), testnet.Monotonic()
		w.primary.Stop(pgtest.Immediate)
		w.primary.Start()
		lost(t, bound, mark, start, "the server was restarted")
		back(t) // the server that it gave up has no session left to end: no new generation
	})
	t.Run("postmaster killed and started", func(t *testing.T) {
		bound, mark, start := cm.Bind("primary"), cm.Mark(), testnet.Monotonic()
		w.primary.Kill9()
		w.primary.Start()
		lost(t, bound, mark, start, "the server was restarted")
		back(t)
	})
	t.Run("the worker is told to end", func(t *testing.T) {
		bound, mark := cm.Bind("primary"), cm.Mark()
		s := w.in(t).session(client, "BEGIN")
		if err := syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		cm.WaitLog(mark, `heartbeat connection is closed`, patience)
		cm.WaitLog(mark, `heartbeat connection is established`, patience)
		back(t)
		if l, ok := cm.Find(mark, `is lost|shuts down|shutting-down`); ok {
			t.Errorf("the end of the worker was taken for the end of the server: %s", l.Text)
		}
		if err := bound.Wait(10 * time.Millisecond); err != nil {
			t.Errorf("the application was told: %v", err)
		}
		w.in(t).alive(s, "the session")
		s.end()
	})
	t.Run("read only", func(t *testing.T) {
		mark := cm.Mark()
		w.primary.Exec("ALTER SYSTEM SET default_transaction_read_only = on")
		w.primary.Reload()
		cm.WaitLog(mark, `attribute of the instance.* from 'primary,read-write' to 'primary,read-only'`, patience)
		eventually(t, "read-write has no target", func() (bool, string) {
			_, err := cm.Try("SHOW TARGET read-write")
			return err != nil && contains(err.Error(), "no target server address"), fmt.Sprint(err)
		})
		for _, attribute := range []string{"primary", "read-only", "any", "prefer-standby"} {
			if row := cm.Show("SHOW TARGET " + attribute)[0]; row["attributes"] != "primary,read-only" {
				t.Errorf("SHOW TARGET %s: %v", attribute, row)
			}
		}
		mark = cm.Mark()
		w.primary.Exec("ALTER SYSTEM RESET default_transaction_read_only")
		w.primary.Reload()
		cm.WaitLog(mark, `attribute of the instance.* to 'primary,read-write'`, patience)
		back(t)
	})
	t.Run("a backend crashes", func(t *testing.T) { crash(w.in(t), client, cm); back(t) })
	t.Run("smart stop", func(t *testing.T) {
		w := w.in(t)
		bound, mark := cm.Bind("primary"), cm.Mark()
		s := w.session(client, "BEGIN")
		if err := syscall.Kill(w.primary.PostmasterPid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		cm.WaitLog(mark, `attribute of the instance.* is changed from 'primary,read-write' to 'primary,read-write,shutting-down'`, patience)
		unused(t)
		w.alive(s, "a session that a smart shutdown waits for")
		if err := bound.Wait(10 * time.Millisecond); err != nil {
			t.Errorf("the application was told too early: %v", err)
		}
		if row := cm.Show("SHOW INSTANCES")[0]; row["state"] != "established" {
			t.Errorf("SHOW INSTANCES: %v", row)
		}
		late := w.conmgr(w.net.Host("late"), "1s", "20s") // heartbeats are not sessions: they are still taken
		if _, err := late.Try("SHOW TARGET any"); err == nil || !contains(err.Error(), "no target server address") {
			t.Errorf("a conmgr that came later offers the instance: %v", err)
		}
		start := testnet.Monotonic()
		s.end()
		if l := cm.WaitLog(mark, `the server has shut down`, patience); l.At-start > soon {
			t.Errorf("conmgr knew after %v: %s", l.At-start, l.Text)
		}
		_ = w.primary.WaitEnd()
		if err := bound.Wait(2 * patience); err == nil ||
			!contains(err.Error(), "FATAL 57P01", "is lost: the server has shut down") {
			t.Errorf("the application was told: %v", err)
		}
	})
}

// crash kills a backend, so that the postmaster resets all sessions and shared memory. It is the
// same postmaster that goes on, but its sessions have ended, and it does not know conmgr any more.
func crash(w *world, client *testnet.Host, cm *cmtest.Conmgr) {
	workers := func() [2]int { return [2]int{w.primary.Worker(workerTitle), w.primary.Worker(terminatorTitle)} }
	bound := cm.Bind("primary")
	s, before, mark, since := w.session(client), workers(), cm.Mark(), w.primary.LogSize()
	if err := syscall.Kill(s.pid, syscall.SIGKILL); err != nil {
		w.Fatal(err)
	}
	w.primary.WaitLog(since, `all server processes terminated; reinitializing`, patience)
	eventually(w, "both workers are others", func() (bool, string) {
		now := workers()
		return now[0] != 0 && now[1] != 0 && now[0] != before[0] && now[1] != before[1], fmt.Sprint(before, now)
	})
	cm.WaitLog(mark, `heartbeat connection is established`, patience)
	testkit.Eventually(w, patience, "the server takes sessions", func() (bool, string) {
		_, err := w.primary.TryQuery("SELECT 1")
		return err == nil, fmt.Sprint(err)
	})
	if err := bound.Wait(patience); err == nil || !contains(err.Error(),
		"is lost: the server has forgotten this Connection Manager") {
		w.Errorf("the application was told: %v", err)
	}
	later := w.session(client)
	w.alive(later, "a session after the reset")
	later.end()
}

// end closes a session: a smart shutdown waits for it.
func (s *session) end() {
	s.conn.Close()
	s.db.Close()
}
