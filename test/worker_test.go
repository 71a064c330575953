package test

// Faults of the watchdog worker itself: it is started again, and nobody else notices.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

const workerTitle = "watchdog worker"

// TestWorkerFaults: whatever happens to the worker, a running query of another session finishes,
// conmgr does not declare the instance lost, and the view is full again. The faults come from the
// test build of the library; see worker/faults_on.go.
func TestWorkerFaults(t *testing.T) {
	w := newWorld(t, pgtest.Faults())
	client := w.net.Host("client")
	cm := w.conmgr(client, "500ms", "5s")
	for _, c := range []struct {
		name    string
		flags   uint32 // of the HELLO that asks for it
		fault   func()
		log     string // that the server must have written
		restart bool
		forbid  string // that the server must not have written
	}{
		{name: "SIGTERM", restart: true, fault: func() { _ = syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM) }},
		{name: "panic", flags: 0xFA170001, restart: true, log: `panic in the heartbeat thread: fault on request`},
		{name: "nil dereference", flags: 0xFA170002, restart: true, log: `panic in the heartbeat thread: runtime error`},
		{name: "concurrent map writes", flags: 0xFA170003, restart: true, log: `fatal error: concurrent map writes`},
		{name: "panic in an unguarded goroutine", flags: 0xFA170004, restart: true, log: `fault on request in an unguarded goroutine`},
		{name: "stall", flags: 0xFA170005},
		{name: "hang", flags: 0xFA170006, restart: true, log: `the heartbeat thread hangs`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			s := w.session(client, "BEGIN")
			long := w.session(client)
			pid, mark, since := w.primary.Worker(workerTitle), cm.Mark(), w.primary.LogSize()
			result := long.start("SELECT pg_sleep(4)")
			if c.fault != nil {
				c.fault()
			} else {
				w.requestFault(c.flags)
			}
			if c.restart {
				eventually(t, "the worker is another process", func() (bool, string) {
					now := w.primary.WorkerPid(workerTitle)
					return now != 0 && now != pid, fmt.Sprint(pid, " ", now)
				})
				w.primary.WaitLog(since, `background worker "watchdog worker" \(PID \d+\) exited with exit code 1`, patience)
			}
			if c.log != "" {
				w.primary.WaitLog(since, c.log, patience)
			}
			if err := <-result; err != nil {
				t.Errorf("a running query of another session: %v", err)
			}
			w.waitView(1)
			if c.name != "hang" { // nothing can beat for ten seconds then
				if l, ok := cm.Find(mark, `is lost`); ok {
					t.Errorf("conmgr: %s", l.Text)
				}
				w.noLog(since, `terminated connections: ipaddress="`+client.Addr4.String())
				w.alive(s, "the session")
			}
			w.noLog(since, `terminating any other active server processes|all server processes terminated|database system was interrupted`)
			cm.WaitInstance(0, "state", "established")
		})
	}
}

// requestFault connects from the server's own host, which has no conmgr, and asks for a fault.
func (w *world) requestFault(flags uint32) {
	w.Helper()
	conn := w.dialHeartbeat()
	defer conn.Close()
	h := heartbeat.Hello{MinVersion: 1, MaxVersion: 1, Interval: time.Second, Timeout: 2 * time.Second, Flags: flags}
	h.ID[0] = byte(flags)
	if _, err := conn.Write(h.Append(nil)); err != nil {
		w.Fatalf("%v", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 64)
	_, _ = conn.Read(buf) // the answer, or the end
}

// dialHeartbeat opens a connection to the heartbeat port from the server's own host.
func (w *world) dialHeartbeat() net.Conn {
	w.Helper()
	return w.dialListening(func() (net.Conn, error) {
		return w.db.Dialer().DialContext(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", w.primary.WatchdogPort))
	})
}

// dialListening dials until the worker listens: it loads its library after the server is up.
func (w *world) dialListening(dial func() (net.Conn, error)) (conn net.Conn) {
	w.Helper()
	eventually(w, "the worker listens", func() (bool, string) {
		var err error
		if conn, err = dial(); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			w.Fatalf("%v", err)
		}
		return err == nil, fmt.Sprint(err)
	})
	return conn
}

// TestDamagedLibrary: a heartbeat library that faults while it is opened costs heartbeats, and no
// session.
func TestDamagedLibrary(t *testing.T) {
	w := newWorld(t, pgtest.Damaged())
	s := w.session(w.db, "BEGIN")
	since := w.primary.LogSize()
	w.primary.WaitLog(since, `heartbeat thread has crashed \(signal 7\)`, patience)
	w.primary.WaitLog(w.primary.LogSize(), `heartbeat thread has crashed`, patience)
	w.alive(s, "the session")
	w.primary.Stop(pgtest.Fast)
	w.noLog(0, `terminated by signal|terminating any other active server processes`)
}

// TestNoTerminator: max_worker_processes leaves room for one of the two workers only. The log says
// so, again and again.
func TestNoTerminator(t *testing.T) {
	w := newWorld(t, pgtest.Set("max_worker_processes", "2")) // PostgreSQL's own logical replication launcher takes one
	w.primary.WaitLog(0, `the terminator worker does not run`, patience)
	w.alive(w.session(w.db), "a session")
}

// TestConmgrsAfterAStall: many conmgrs of one address connect while the worker is stopped. None is
// taken for a stranger.
func TestConmgrsAfterAStall(t *testing.T) {
	const n = 30
	w := newWorld(t)
	w.dialHeartbeat().Close() // it listens
	worker := w.primary.Worker(workerTitle)
	_ = syscall.Kill(worker, syscall.SIGSTOP)
	var conns []net.Conn
	for i := range n {
		c := w.dialHeartbeat()
		defer c.Close()
		h := heartbeat.Hello{MinVersion: 1, MaxVersion: 1, Interval: 5 * time.Second, Timeout: 10 * time.Second}
		h.ID[0] = byte(i + 1)
		if _, err := c.Write(h.Append(nil)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	_ = syscall.Kill(worker, syscall.SIGCONT)
	for i, c := range conns {
		buf := make([]byte, heartbeat.MaxFrame)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		got, err := c.Read(buf)
		if f, _, _ := heartbeat.Next(buf[:got]); err != nil || f.Type != heartbeat.TypeWelcome {
			t.Errorf("conmgr %d: %v %v", i, f.Type, err)
		}
	}
}

// TestTerminatorRestarts: a terminator that an administrator ends comes back, and serves what was
// decided meanwhile.
func TestTerminatorRestarts(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "300ms", "900ms")
	s := w.session(client, "BEGIN")
	pid := w.primary.Worker("terminator worker")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	since := w.primary.LogSize()
	cm.Signal(syscall.SIGKILL)
	w.primary.WaitLog(since, `did not resume`, patience)
	w.alive(s, "the session, while the terminator is stopped")
	_ = syscall.Kill(pid, syscall.SIGTERM)
	_ = syscall.Kill(pid, syscall.SIGCONT)
	w.waitGone(s.pid, patience, "the session")
	eventually(t, "another terminator runs", func() (bool, string) {
		now := w.primary.WorkerPid("terminator worker")
		return now != 0 && now != pid, fmt.Sprint(pid, " ", now)
	})
}

// TestWorkerAndClientDie: the client host dies while the worker is being restarted. What the worker
// knew is in shared memory.
func TestWorkerAndClientDie(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	w.conmgr(client, "500ms", "3s")
	s := w.session(client, "BEGIN")
	since := w.primary.LogSize()
	worker := w.primary.Worker(workerTitle)
	cut := w.net.Isolate(client)
	_ = syscall.Kill(worker, syscall.SIGTERM)
	w.primary.WaitLog(since, `waiting for 1 known conmgr processes to resume`, patience)
	w.waitGone(s.pid, patience, "the session")
	cut.Heal()
}

// TestSignalMasks: no thread but the main one may take a signal that PostgreSQL waits for; and no
// other process than this one has a Go runtime.
func TestSignalMasks(t *testing.T) {
	w := newWorld(t)
	w.dialHeartbeat().Close() // it has loaded its library
	pid := w.primary.Worker(workerTitle)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) < 3 {
		t.Fatalf("threads of the worker: %v %v", tasks, err)
	}
	for _, task := range tasks {
		if filepath.Base(task) == fmt.Sprint(pid) {
			continue
		}
		status, err := os.ReadFile(task + "/status")
		if err != nil {
			continue // it has ended
		}
		var blocked uint64
		for _, line := range strings.Split(string(status), "\n") {
			if strings.HasPrefix(line, "SigBlk:") {
				_, _ = fmt.Sscanf(line, "SigBlk: %x", &blocked)
			}
		}
		for _, sig := range []syscall.Signal{syscall.SIGURG, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGQUIT, syscall.SIGINT} {
			if blocked&(1<<(sig-1)) == 0 {
				t.Errorf("%s does not block %v", task, sig)
			}
		}
	}
	for _, p := range w.primary.Processes() {
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.Pid))
		if err != nil {
			continue
		}
		if has, want := bytes.Contains(maps, []byte("watchdog_go.so")), p.Pid == pid; has != want {
			t.Errorf("%s (pid %d): watchdog_go.so is mapped: %v", p.Title, p.Pid, has)
		}
	}
}

// TestLatch: 2000 times another process sets the worker's latch; each time it wakes up at once. A
// Go thread that took SIGURG would make it sleep until its next ping, up to a second later.
func TestLatch(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.check_attr_interval", "1h"), pgtest.TestModule())
	w.primary.Exec(`CREATE FUNCTION set_latch(pid int, n int, patience_ms int) RETURNS int AS '$libdir/watchdog_test', 'set_latch' LANGUAGE C STRICT`)
	w.dialHeartbeat().Close() // it waits by its latch now
	if lost := w.primary.Value("SELECT set_latch($1, 2000, 800)", w.primary.Worker(workerTitle)); lost != "0" {
		t.Errorf("%s of 2000 wake-ups were lost", lost)
	}
}
