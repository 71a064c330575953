package test

// A server that shuts down is not dead: it delivers to whoever is connected. And if its host dies
// in the middle of that, it is found.

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const filler = `INSERT INTO t SELECT n, repeat(md5(n::text || clock_timestamp()), 60) FROM generate_series(1, 100) n`

// load writes on the primary until the server ends, and counts what was acknowledged.
func (w *world) load(writers int) (committed *atomic.Int64, ended func()) {
	w.Helper()
	committed = &atomic.Int64{}
	done := make(chan struct{}, writers)
	for i := range writers {
		s := w.session(w.db)
		go func() {
			defer func() { done <- struct{}{} }()
			for n := 1; ; n++ {
				if _, err := s.conn.ExecContext(context.Background(), fmt.Sprintf("WITH x AS (%s RETURNING 1) INSERT INTO done VALUES (%d, %d)", filler, i, n)); err != nil {
					return
				}
				committed.Add(1)
			}
		}()
	}
	return committed, func() {
		for range writers {
			<-done
		}
	}
}

// TestCleanShutdownUnderLoad: a standby that is far behind gets all of it, the shutdown checkpoint
// included, although that takes longer than twice heartbeat_timeout: by way of a relay port, and
// directly beside destroy_sockets.
func TestCleanShutdownUnderLoad(t *testing.T) {
	for _, way := range []string{"relay port", "destroy_sockets"} {
		t.Run(way, func(t *testing.T) {
			w := newWorld(t, pgtest.Set("wal_sender_timeout", "60s"), pgtest.Set("max_wal_size", "2GB"), pgtest.Set("wal_keep_size", "2GB"))
			w.primary.Exec("CREATE TABLE t (n int, filler text); CREATE TABLE done (writer int, n int)")
			client := w.net.Host("client")
			standby := w.primary.Standby("standby", pgtest.Host(client))
			cm := cmtest.Start(t, client, cmtest.Config{Interval: "1s", Timeout: "3s", Clusters: []*pgtest.Cluster{w.primary},
				Extra: relayConf + map[string]string{"destroy_sockets": "destroy_sockets = on\n"}[way], NetAdmin: true})
			cm.WaitInstance(0, "state", "established")
			if way == "relay port" {
				standby.Exec(fmt.Sprintf("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=%d user=postgres application_name=standby sslmode=disable'", relayReadWrite))
				standby.Reload()
				eventually(t, "the standby streams by way of the relay port", func() (bool, string) {
					rows := cm.Show("SHOW APPLICATIONS")
					return len(rows) == 1 && w.primary.Value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1", fmt.Sprint(rows)
				})
			}
			rate := w.net.Rate(client, 20)
			committed, ended := w.load(4)
			w.waitBehind("replay_lsn")
			application := cm.Bind("primary")
			mark := cm.Mark()
			begun := testnet.Monotonic()
			w.admin.Close()
			w.primary.Stop(pgtest.Fast)
			took := testnet.Monotonic() - begun
			ended()
			t.Logf("%d commits; the shutdown took %v", committed.Load(), took)
			if took < 7*time.Second {
				t.Errorf("the shutdown took %v only, which proves nothing", took)
			}
			goodbye := cm.WaitLog(mark, "remote node shuts down heartbeat connection", patience)
			stopped := cm.WaitLog(mark, "the server has shut down: instance 0", patience)
			lost := cm.WaitLog(mark, "instance 0 .* is lost: the server has shut down", patience)
			if d := stopped.At - goodbye.At; d < 6*time.Second {
				t.Errorf("stopped %v after the goodbye: %s", d, cm.Log())
			}
			if d := lost.At - begun; d < took-time.Second { // the end of the stop is noticed here, perhaps late
				t.Errorf("lost %v after the stop, which took %v", d, took)
			}
			if err := application.Wait(patience); err == nil || !contains(err.Error(), "is lost: the server has shut down") {
				t.Errorf("an application that is still bound was told: %v", err)
			}
			rate.Heal()
			want := w.controlData("Latest checkpoint location")
			eventually(t, "the standby has the shutdown checkpoint", func() (bool, string) {
				v := standby.Value("SELECT pg_last_wal_receive_lsn() > $1::pg_lsn AND pg_last_wal_replay_lsn() > $1::pg_lsn", want)
				return v == "true", v
			})
			if got := standby.Value("SELECT count(*) FROM done"); got != fmt.Sprint(committed.Load()) {
				t.Errorf("the standby has %s commits of %d", got, committed.Load())
			}
			if n := strings.Count(w.primary.Log(), "the database system is shutting down"); n > 2+int(took/(10*time.Second)) {
				t.Errorf("conmgr's questions are %d lines in the server's log", n)
			}
		})
	}
}

// waitBehind waits until the only receiver of WAL is so far behind that it takes some seconds to
// catch up: at 20 Mbit/s, ten, and not much more, as the load goes on until the server stops.
func (w *world) waitBehind(column string) {
	w.Helper()
	testkit.Eventually(w, patience, "the receiver is behind", func() (bool, string) {
		v := w.primary.Value("SELECT (pg_current_wal_lsn() - " + column + ")::bigint FROM pg_stat_replication")
		var n int64
		fmt.Sscan(v, &n)
		return n > 24<<20, v
	})
}

// controlData is a line of pg_controldata of the primary.
func (w *world) controlData(name string) string {
	w.Helper()
	out, err := w.primary.Command(context.Background(), "pg_controldata", "-D", w.primary.DataDir).Output()
	if err != nil {
		w.Fatalf("pg_controldata: %v", err)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(rest)
		}
	}
	w.Fatalf("pg_controldata has no %s:\n%s", name, out)
	return ""
}

// TestReceivewalByRelay: pg_receivewal by way of a relay port has all WAL of a server that has shut
// down under load.
func TestReceivewalByRelay(t *testing.T) {
	w := newWorld(t, pgtest.Set("max_wal_size", "2GB"), pgtest.Set("wal_keep_size", "2GB"))
	w.primary.Exec("CREATE TABLE t (n int, filler text); CREATE TABLE done (writer int, n int)")
	client := w.net.Host("client")
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "1s", Timeout: "4s", Clusters: []*pgtest.Cluster{w.primary}, Extra: relayConf})
	cm.WaitInstance(0, "state", "established")
	dir := t.TempDir()
	cmd := client.Command(context.Background(), filepath.Join(w.primary.BinDir(), "pg_receivewal"), "-D", dir, "--no-loop", "-d", relayDSN(relayReadWrite))
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	received := make(chan error, 1)
	go func() { received <- cmd.Wait() }()
	eventually(t, "pg_receivewal streams", func() (bool, string) {
		return w.primary.Value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1", said.String()
	})
	rate := w.net.Rate(client, 20)
	_, ended := w.load(4)
	w.waitBehind("write_lsn")
	w.admin.Close()
	w.primary.Stop(pgtest.Fast)
	ended()
	rate.Heal()
	select {
	case <-received:
	case <-time.After(patience):
		t.Fatal("pg_receivewal does not end")
	}
	partial, _ := filepath.Glob(filepath.Join(dir, "*.partial"))
	for _, p := range partial {
		if err := os.Rename(p, strings.TrimSuffix(p, ".partial")); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint := w.controlData("Latest checkpoint location")
	out, err := exec.Command(filepath.Join(w.primary.BinDir(), "pg_waldump"), "-p", dir, "-s", checkpoint, "-n", "1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CHECKPOINT_SHUTDOWN") {
		t.Errorf("the shutdown checkpoint at %s has not arrived: %v: %s\npg_receivewal: %s", checkpoint, err, out, said.String())
	}
}

// TestPowerOffAfterTheStop: the server says goodbye, and then its host dies: found at the last
// answer + heartbeat_timeout.
func TestPowerOffAfterTheStop(t *testing.T) {
	const interval, timeout = 500 * time.Millisecond, 2 * time.Second
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, interval.String(), timeout.String())
	stalls := testkit.WatchStalls()
	// A session that cannot end holds up the shutdown.
	s := w.session(client, "BEGIN")
	blocked := s.start("SELECT pg_sleep(600)")
	bound, mark := cm.Bind("primary"), cm.Mark()
	if err := syscall.Kill(s.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(w.primary.PostmasterPid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	goodbye := cm.WaitLog(mark, "remote node shuts down heartbeat connection", patience)
	eventually(w, "a server that shuts down is not offered", func() (bool, string) { // the log comes first
		_, err := cm.Try("SHOW TARGET any")
		return err != nil, cm.Log()
	})
	waitQuiet(5 * time.Second) // more than twice heartbeat_timeout
	cm.WaitInstance(0, "state", "stopping")
	if err := bound.Wait(time.Millisecond); err != nil {
		t.Errorf("told while the server shuts down: %v", err)
	}
	select {
	case err := <-blocked:
		t.Errorf("the session was cut: %v", err)
	default:
	}
	cut := w.net.Isolate(w.db)
	lost := cm.WaitLog(mark, `instance 0 .* is lost: the server was shutting down and was not heard of for \d+ ms`, patience)
	if err := bound.Wait(patience); err == nil || !contains(err.Error(), "57P01", "is lost") {
		t.Errorf("the application was told: %v", err)
	}
	most := timeout + interval
	stall := stalls.Longest()
	if stall > interval/2 { // which conmgr allows for
		most += stall + interval
	}
	if d := lost.At - cut.Applied.Before.Mono; d < timeout/2 || d > most {
		t.Errorf("lost %v after the host was cut off, %v after the goodbye; this machine stalled for up to %v", d,
			lost.At-goodbye.At, stall)
	}
	_ = syscall.Kill(s.pid, syscall.SIGCONT)
	cut.Heal()
}

// TestPausedClient: a client machine that was paused for longer than the server's patience. Its
// sessions have been ended, and the application that waits in a query is told as soon as the
// machine goes on.
func TestPausedClient(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	cm := w.conmgr(client, "500ms", "2s")
	s := w.session(client)
	bound, mark, since := cm.Bind("primary"), cm.Mark(), w.primary.LogSize()
	if err := w.db.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_orphan_retries", []byte("1"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	cut := w.net.Isolate(client)
	cm.Signal(syscall.SIGSTOP)
	w.primary.WaitLog(since, `terminator: terminated connections: ipaddress="`+client.Addr4.String()+`", count=1`, patience)
	w.waitGone(s.pid, patience, "the session of the paused host")
	eventually(t, "the server's kernel has given the heartbeat connection up", func() (bool, string) {
		var table []byte
		err := w.db.Do(func() (err error) {
			table, err = os.ReadFile("/proc/thread-self/net/tcp")
			return err
		})
		return err == nil && !strings.Contains(string(table), fmt.Sprintf(":%04X 0", pgtest.WatchdogPort)+hexAddr(client.Addr4)), string(table)
	})
	cut.Heal()
	woken := testnet.Monotonic()
	cm.Signal(syscall.SIGCONT)
	lost := cm.WaitLog(mark, `instance 0 .* is lost: the server has forgotten this Connection Manager and has ended its sessions`, patience)
	if err := bound.Wait(patience); err == nil || !contains(err.Error(), "57P01", "forgotten") {
		t.Errorf("the application was told: %v", err)
	}
	if d := lost.At - woken; d > 3500*time.Millisecond {
		t.Errorf("told %v after the machine went on", d)
	}
	cm.WaitInstance(0, "state", "established")
	cm.WaitInstance(0, "generation", "0")
	later := w.session(client)
	w.alive(later, "a session after the pause")
}

// hexAddr is an address as /proc/net/tcp has it, without its first digit.
func hexAddr(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("%02X%02X%02X%02X", b[3], b[2], b[1], b[0])[1:]
}
