package test

// destroy_sockets: stock clients that are connected directly are woken at the verdict, and nobody
// else is touched.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// blocked is a client that waits for an answer that will never come.
type blocked struct {
	err error
	at  time.Duration // when it got the error
}

// crowd opens n sessions through a DSN, each blocked in a query, and returns a function that waits
// for the errors of all.
func (w *world) crowd(from *testnet.Host, dsn, application string, n int) (wait func() []blocked) {
	w.Helper()
	db := w.primary.OpenAt(from, dsn+" application_name="+application)
	w.Cleanup(func() { db.Close() })
	results := make([]blocked, n)
	var begun, ended sync.WaitGroup
	const dialers = 16
	for i := 0; i < dialers; i++ {
		begun.Add(1)
		go func() {
			defer begun.Done()
			for j := i; j < n; j += dialers {
				conn, err := db.Conn(context.Background())
				if err != nil {
					results[j].err = err
					w.Errorf("connect: %v", err)
					continue
				}
				ended.Add(1)
				go func() {
					defer ended.Done()
					_, err := conn.ExecContext(context.Background(), "SELECT pg_sleep(600)")
					results[j] = blocked{err, testnet.Monotonic()}
					conn.Close()
				}()
			}
		}()
	}
	begun.Wait()
	w.sleeping(application, n)
	return func() []blocked {
		w.Helper()
		done := make(chan struct{})
		go func() { ended.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(patience):
			w.Fatalf("some of %d clients still wait", n)
		}
		return results
	}
}

// sleeping waits until n sessions of an application are in pg_sleep.
func (w *world) sleeping(application string, n int) {
	w.Helper()
	eventually(w, fmt.Sprintf("%d sessions of %s wait", n, application), func() (bool, string) {
		var k int
		err := w.admin.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event = 'PgSleep'", application).Scan(&k)
		return k == n, fmt.Sprint(k, " ", err)
	})
}

// woken checks that all clients got an error, and soon after the verdict.
func (w *world) woken(what string, results []blocked, verdict time.Duration, stall time.Duration) {
	w.Helper()
	times := make([]time.Duration, len(results))
	for i, r := range results {
		if r.err == nil {
			w.Fatalf("%s: a blocked client got no error", what)
		}
		times[i] = r.at - verdict
	}
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	n := len(times)
	w.Logf("%s: %d clients woken %v to %v after the verdict, median %v (this machine stalled for up to %v): %v", what,
		n, times[0], times[n-1], times[n/2], stall, results[0].err)
	if times[n-1] > 50*time.Millisecond+3*stall {
		w.Errorf("%s: the last client was woken %v after the verdict", what, times[n-1])
	}
}

// silence makes the primary a dead host, as seen from a client host: nothing arrives, nothing is
// answered. Its processes are stopped, as a dead host takes no processor time from the client's
// either; here, both are one machine, and the ends of 500 backends would be measured otherwise.
func (w *world) silence(client *testnet.Host) *testnet.Fault {
	w.Helper()
	cut := w.net.CutPort(client, w.db, uint16(w.primary.Port))
	w.primary.Freeze()
	return cut
}

// psql starts a psql from a host that runs a statement; its output and end come through the
// channel.
func (w *world) psql(from *testnet.Host, dsn, statement string) (*exec.Cmd, <-chan string) {
	w.Helper()
	cmd := from.Command(context.Background(), "psql", "-X", "-At", "-d", dsn, "-c", statement)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		w.Fatalf("psql: %v", err)
	}
	out := make(chan string, 1)
	go func() {
		err := cmd.Wait()
		out <- fmt.Sprintf("%s%v", said.String(), err)
	}()
	return cmd, out
}

// TestDestroySockets: 500 clients and some of other kinds on the lost instance; and whoever must
// not be hit.
func TestDestroySockets(t *testing.T) {
	w := newWorld(t, pgtest.Set("max_connections", "600"), pgtest.Set("shared_buffers", "64MB"))
	client, other, db2 := w.net.Host("client"), w.net.Host("other"), w.net.Host("db2")
	second := pgtest.New(t, pgtest.Named("second"), pgtest.Host(db2), pgtest.Watchdog())
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "2s",
		Clusters: []*pgtest.Cluster{w.primary, second},
		Extra:    "destroy_sockets = on\n", NetAdmin: true})
	cm.WaitInstance(0, "state", "established")
	cm.WaitInstance(1, "state", "established")

	wait := w.crowd(client, w.primary.DSN(), "direct", 500)
	_, out := w.psql(client, w.primary.DSN()+" application_name=psql", "SELECT pg_sleep(600)")
	w.sleeping("psql", 1)
	mapped := readUntilEnd(t, dialMapped(t, client, netip.AddrPortFrom(w.db.Addr4, uint16(w.primary.Port))))

	survivors := map[string]*session{
		"a session of the same host with another instance": w.sessionOf(second, client),
		"a session of another host with the lost instance": w.session(other, "BEGIN"),
		"a session of the server's own host":               w.session(w.db, "BEGIN"),
	}
	// Sockets that look like it: another port of the lost host, the instance's port on another
	// address, and its own end of a connection.
	lookalikes := map[string]<-chan blocked{}
	lookalike := func(what string, at *testnet.Host, address string) {
		l, err := at.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		conn, err := client.Dialer().DialContext(context.Background(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { accepted.Close() })
		lookalikes[what] = readUntilEnd(t, conn)
		lookalikes[what+", the other end"] = readUntilEnd(t, accepted)
	}
	lookalike("another port of the lost host", w.db, fmt.Sprintf("%s:9999", w.db.Addr4))
	lookalike("another port of the lost host, IPv6", w.db, fmt.Sprintf("[%s]:9998", w.db.Addr6))
	lookalike("the same port of the client host itself", client, fmt.Sprintf("127.0.0.1:%d", w.primary.Port))

	six, err := client.Dialer().Dial("tcp", fmt.Sprintf("[%s]:%d", w.db.Addr6, w.primary.Port))
	if err != nil {
		t.Fatal(err)
	}
	lookalikes["the instance's port at an address that is not configured"] = readUntilEnd(t, six)

	stalls := testkit.WatchStalls()
	mark := cm.Mark()
	cut := w.silence(client)
	connecting := make(chan blocked, 1)
	go func() { // still in SYN_SENT at the verdict
		_, err := client.Dialer().DialTimeout("tcp", fmt.Sprintf("%s:%d", w.db.Addr4, w.primary.Port), patience)
		connecting <- blocked{err, testnet.Monotonic()}
	}()
	verdict := cm.WaitLog(mark, lostBySilence, patience).At
	results := wait()
	line := cm.WaitLog(mark, `destroyed \d+ connections to the lost instance 0`, patience)
	w.woken("destroy_sockets", append(results, w.end("the mapped connection", mapped),
		w.end("the one that was connecting", connecting)), verdict, stalls.Longest())
	if text := <-out; !strings.Contains(text, "Software caused connection abort") {
		t.Errorf("psql: %s", text)
	}
	// with psql, the mapped one, and the one that was connecting
	if !strings.Contains(line.Text, "destroyed 503 connections") {
		t.Errorf("conmgr logged: %s", line.Text)
	}
	t.Log(line.Text)
	// Before the 500 backends of the lost instance end, all at once and on the same processors.
	const elsewhere = "a session of the same host with another instance"
	var one int
	if err := survivors[elsewhere].conn.QueryRowContext(context.Background(), "SELECT 1").Scan(&one); err != nil {
		t.Errorf("%s: %v", elsewhere, err)
	}
	delete(survivors, elsewhere)
	w.primary.Thaw()
	cut.Heal()
	for what, s := range survivors {
		w.alive(s, what)
	}
	for what, ended := range lookalikes {
		select {
		case b := <-ended:
			t.Errorf("%s was hit: %v", what, b.err)
		default:
		}
	}
	// Going on: the instance comes back, and when its old sessions have ended, what connects now stays.
	cm.WaitInstance(0, "state", "established")
	eventually(t, "the sessions of before have ended", func() (bool, string) {
		n := w.sessions(client)
		return n == 0, fmt.Sprintf("%d sessions", n)
	})
	cm.WaitInstance(0, "state", "established")
	w.alive(w.session(client, "BEGIN"), "a session after the loss")
}

// TestDestroyIPv6: an instance that is configured by its IPv6 address.
func TestDestroyIPv6(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "2s",
		Clusters: []*pgtest.Cluster{w.primary}, IPv6: true,
		Extra: "destroy_sockets = on\n", NetAdmin: true})
	cm.WaitInstance(0, "state", "established")
	wait := w.crowd(client, w.primary.DSNOf(w.db.Addr6.String(), "postgres"), "six", 3)
	four := w.session(client, "BEGIN") // an address that the configuration does not name
	mark := cm.Mark()
	stalls := testkit.WatchStalls()
	w.primary.Freeze() // a server that is merely cut off ends the sessions at the same moment
	verdict := cm.WaitLog(mark, lostBySilence, patience).At
	w.woken("IPv6", wait(), verdict, stalls.Longest())
	cm.WaitLog(mark, `destroyed 3 connections to the lost instance 0`, patience)
	w.primary.Thaw()
	var one int
	if err := four.conn.QueryRowContext(context.Background(), "SELECT 1").Scan(&one); err != nil {
		var op *net.OpError
		if errors.As(err, &op) && errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("the session by IPv4 was hit: %v", err)
		}
	}
}

// TestDestroyNeedsCapability: a clear error at start; and the capability may be the file's.
func TestDestroyNeedsCapability(t *testing.T) {
	root, err := pgtest.SourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := testkit.TempDir("watchdog-destroy-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	data, err := os.ReadFile(filepath.Join(root, "build", "conmgr"))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "conmgr")
	conf := "backend_hostaddr0 = 127.0.0.1\nport = 27599\nlog_min_messages = INFO\ndestroy_sockets = on\n"
	if err := errors.Join(os.WriteFile(program, data, 0o755),
		os.WriteFile(filepath.Join(dir, "conmgr.conf"), []byte(conf), 0o644),
		os.Chown(dir, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	client := testnet.New(t).Host("client")
	start := func() *exec.Cmd {
		return client.CommandWith(context.Background(), testnet.Options{UID: 65534, GID: 65534}, program, "-D", dir)
	}
	out, err := start().CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 ||
		!contains(string(out), "FATAL:  destroy_sockets is on, but conmgr has not the capability CAP_NET_ADMIN",
			"HINT:", "AmbientCapabilities=CAP_NET_ADMIN") {
		t.Errorf("without the capability: %v: %s", err, out)
	}
	// Only conmgr's group may run a program with capabilities of its own.
	if err := errors.Join(os.Chown(program, 0, 65534), os.Chmod(program, 0o750)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("setcap", "cap_net_admin+ep", program).CombinedOutput(); err != nil {
		t.Fatalf("setcap: %v: %s", err, out)
	}
	cmd := start()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "conmgr starts with the file's capability", func() (bool, string) {
		conn, err := client.Dialer().Dial("tcp", "127.0.0.1:27599")
		if err != nil {
			return false, err.Error()
		}
		conn.Close()
		return true, ""
	})
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("conmgr: %v", err)
	}
}

// end waits for a connection's end.
func (w *world) end(what string, ended <-chan blocked) blocked {
	w.Helper()
	select {
	case b := <-ended:
		return b
	case <-time.After(patience):
		w.Fatalf("%s was not ended", what)
		return blocked{}
	}
}

// readUntilEnd reads in the background, and tells the end.
func readUntilEnd(t *testing.T, conn net.Conn) <-chan blocked {
	t.Cleanup(func() { conn.Close() })
	ended := make(chan blocked, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		ended <- blocked{err, testnet.Monotonic()}
	}()
	return ended
}

// dialMapped connects an IPv6 socket to an IPv4 address, which Go does not do by itself.
func dialMapped(t *testing.T, from *testnet.Host, to netip.AddrPort) net.Conn {
	t.Helper()
	var conn net.Conn
	err := from.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		file := os.NewFile(uintptr(fd), "mapped")
		defer file.Close()
		if err := unix.Connect(fd, &unix.SockaddrInet6{Port: int(to.Port()),
			Addr: netip.AddrFrom16(to.Addr().As16()).As16()}); err != nil {
			return err
		}
		conn, err = net.FileConn(file)
		return err
	})
	if err != nil {
		t.Fatalf("connect to %s, mapped: %v", to, err)
	}
	return conn
}

// sessionOf opens a session on another cluster.
func (w *world) sessionOf(c *pgtest.Cluster, from *testnet.Host) *session {
	w.Helper()
	s := &session{db: c.Open(from, "")}
	w.Cleanup(func() { s.db.Close() })
	var err error
	if s.conn, err = s.db.Conn(context.Background()); err != nil {
		w.Fatalf("connect: %v", err)
	}
	return s
}
