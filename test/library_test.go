package test

// A running server whose libraries are removed, damaged or replaced: the worker slows down, the log
// stays readable, no session notices, and what was put back is used.

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// foreignLibrary makes a heartbeat library of another interface version.
func foreignLibrary(t *testing.T, to string) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "foreign.c")
	text := "unsigned watchdog_go_abi_version(void) { return 4711; }\nvoid watchdog_go_run(void *bridge) { (void) bridge; }\n"
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", to, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestLibrariesGone: the worker ends while its libraries are not what they were.
func TestLibrariesGone(t *testing.T) {
	w := newWorld(t)
	lib := strings.TrimSpace(w.client("pg_config", "--pkglibdir"))
	c, g := filepath.Join(lib, "watchdog.so"), filepath.Join(lib, "watchdog_go.so")
	remove := func(t *testing.T, file string) {
		t.Helper()
		if err := os.Rename(file, file+".kept"); err != nil {
			t.Fatal(err)
		}
	}
	// Another file in its place, as an installation that fails midway leaves it: the old one stays
	// mapped.
	truncate := func(t *testing.T, file string) {
		remove(t, file)
		data, err := os.ReadFile(file + ".kept")
		if err == nil {
			err = os.WriteFile(file, data[:20_000], 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s := w.session(w.db, "BEGIN")
	for _, tc := range []struct {
		name   string
		breaks func(*testing.T)
		fails  string // with which warning the worker fails; "": it does not
	}{
		{"watchdog.so missing", func(t *testing.T) { remove(t, c) }, ""},
		{"watchdog.so cut off", func(t *testing.T) { truncate(t, c) }, ""},
		{"watchdog_go.so missing", func(t *testing.T) { remove(t, g) },
			`could not load the heartbeat library: .*cannot open shared object`},
		{"watchdog_go.so cut off", func(t *testing.T) { truncate(t, g) },
			`could not load the heartbeat library|heartbeat thread has crashed`},
		{"watchdog_go.so of another version", func(t *testing.T) { remove(t, g); foreignLibrary(t, g) },
			`could not load the heartbeat library: .*has interface version 4711, but version \d+ is needed`},
		{"both missing", func(t *testing.T) { remove(t, c); remove(t, g) }, `could not load the heartbeat library`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := w.in(t)
			tc.breaks(t)
			since, start := w.primary.LogSize(), testnet.Monotonic()
			_ = syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM)
			if tc.fails == "" {
				w.primary.WaitLog(since, `listening for heartbeat connections`, patience)
			} else {
				w.primary.WaitLog(since, tc.fails, patience)
				// After this one comes a pause of four seconds, or more.
				testkit.Eventually(t, patience, "the fourth failure", func() (bool, string) {
					n := len(regexp.MustCompile(tc.fails).FindAllString(w.primary.Log()[since:], -1))
					return n >= 4, fmt.Sprint(n)
				})
				log := w.primary.Log()[since:]
				lines, seconds := strings.Count(log, "\n"), (testnet.Monotonic() - start).Seconds()
				if seconds < 2.5 || lines > 25 {
					t.Errorf("%d lines in %.1f s:\n%s", lines, seconds, log)
				}
				t.Logf("%d lines in %.1f s", lines, seconds)
			}
			for _, file := range []string{c, g} {
				if _, err := os.Stat(file + ".kept"); err == nil {
					if err := os.Rename(file+".kept", file); err != nil {
						t.Fatal(err)
					}
				}
			}
			if tc.fails != "" {
				since = w.primary.LogSize()
				// A reload ends the pause; one that comes before the new process has its handlers
				// is missed.
				testkit.Eventually(t, 3*time.Second, "the worker listens again", func() (bool, string) {
					w.primary.Reload()
					return strings.Contains(w.primary.Log()[since:], "listening for heartbeat connections"), ""
				})
			}
			w.alive(s, "a session")
			w.noLog(since, `terminated by signal|terminating any other active server processes|could not access file`)
		})
	}
}

// TestRestartIsQuick: a worker that somebody ends, however often, is back at once; so is one that
// has crashed after it had begun.
func TestRestartIsQuick(t *testing.T) {
	w := newWorld(t, pgtest.Faults())
	again := func(what string, end func()) {
		t.Helper()
		since, stalls := w.primary.LogSize(), testkit.WatchStalls()
		end()
		m := w.primary.WaitLog(since, `(?m)^(\S+ \S+) .*"watchdog worker" \(PID \d+\) exited(?s:.*?)\n`+
			`(\S+ \S+) .*listening for heartbeat connections`, patience)
		const form = "2006-01-02 15:04:05.000"
		from, err1 := time.Parse(form, m[1])
		to, err2 := time.Parse(form, m[2])
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		stall := stalls.Longest() // the shortest pause is a second, and those that follow are longer
		if d := to.Sub(from); d > 900*time.Millisecond+3*stall {
			t.Errorf("%s: listens again only after %v (this machine stalled for up to %v)", what, d, stall)
		} else {
			t.Logf("%s: listens again after %v", what, d)
		}
	}
	for i := range 15 {
		again(fmt.Sprint("end ", i), func() { _ = syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM) })
	}
	again("crash", func() { w.requestFault(0xFA170003) })
}

// TestManyHostsDie: more conmgrs than anybody would plan for end within a moment, each with a
// session of its host that is still starting.
func TestManyHostsDie(t *testing.T) {
	const hosts = 90
	w := newWorld(t, pgtest.Set("post_auth_delay", "6"), pgtest.Set("max_connections", "120"))
	w.primary.WaitLog(0, `listening for heartbeat connections`, patience)
	from := func(i int, port int) net.Conn {
		conn := w.dialListening(func() (conn net.Conn, err error) {
			err = w.db.Do(func() (err error) {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i+1))}, Timeout: patience}
				conn, err = d.DialContext(context.Background(), "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
				return err
			})
			return conn, err
		})
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	var conmgrs []net.Conn
	for i := range hosts {
		h := heartbeat.Hello{MinVersion: 1, MaxVersion: 1, Interval: time.Second, Timeout: time.Minute}
		h.ID[0] = byte(i + 1)
		conn := from(i, w.primary.WatchdogPort)
		if _, err := conn.Write(h.Append(nil)); err != nil {
			t.Fatal(err)
		}
		conmgrs = append(conmgrs, conn)
	}
	w.waitView(hosts)
	for i := range hosts {
		conn := from(i, w.primary.Port)
		fe := pgproto3.NewFrontend(pgproto3.NewChunkReader(conn), conn)
		if err := fe.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber,
			Parameters: map[string]string{"user": "postgres", "database": "postgres"}}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the server has taken all connections", func() (bool, string) {
		n := 0
		for _, p := range w.primary.Processes() {
			if strings.Contains(p.Title, "127.0.1.") {
				n++
			}
		}
		return n == hosts, fmt.Sprint(n)
	})
	for _, conn := range conmgrs {
		g := heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrEnds}
		if _, err := conn.Write(g.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all of them are gone", func() (bool, string) {
		var n int
		err := w.admin.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE client_addr <<= '127.0.1.0/24'").Scan(&n)
		ended := strings.Count(w.primary.Log(), "terminated connections: ipaddress=\"127.0.1.")
		return err == nil && n == 0 && ended == hosts, fmt.Sprintf("%d are there, %d were ended: %v", n, ended, err)
	})
}
