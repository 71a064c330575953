package test

// Replication and backups of a client host: they end by its silence, and by nothing that only its
// conmgr does. A server that shuts down delivers its last record.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// consumer is a program on a client host that has a replication connection to the primary.
type consumer struct {
	cmd    *exec.Cmd
	dir    string
	ended  chan struct{}
	sender int // the walsender's pid
	output bytes.Buffer
}

// program is the path of a program of PostgreSQL.
func (w *world) program(name string) string {
	w.Helper()
	return filepath.Join(strings.TrimSpace(w.client("pg_config", "--bindir")), name)
}

// consume starts a program that replicates, and waits until it has its walsender.
func (w *world) consume(from *testnet.Host, name string, args ...string) *consumer {
	w.Helper()
	dir, err := testkit.TempDir("wdrecv")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { os.RemoveAll(dir) })
	c := &consumer{dir: dir, ended: make(chan struct{})}
	application := fmt.Sprintf("%s on %s", name, from.Name)
	args = append(args, "--no-loop", "--dbname", w.primary.DSN()+" application_name='"+application+"'")
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "DIR", dir)
	}
	c.cmd = from.Command(context.Background(), w.program(name), args...)
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	if err := c.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait()
	}()
	eventually(w, name+" streams", func() (bool, string) {
		err := w.admin.QueryRow("SELECT pid FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'", application).Scan(&c.sender)
		return err == nil, fmt.Sprint(err)
	})
	return c
}

func (w *world) receiveWAL(from *testnet.Host) *consumer {
	return w.consume(from, "pg_receivewal", "-D", "DIR", "--status-interval=1")
}

// streams checks that a consumer is what it was, and still gets what is written.
func (w *world) streams(c *consumer, what string) {
	w.Helper()
	lsn := w.primary.Value("SELECT pg_switch_wal()")
	eventually(w, what+" gets on", func() (bool, string) {
		select {
		case <-c.ended:
			return true, ""
		default:
		}
		var got bool
		err := w.admin.QueryRow("SELECT sent_lsn >= $1::pg_lsn FROM pg_stat_replication WHERE pid = $2", lsn,
			c.sender).Scan(&got)
		return err == nil && got, fmt.Sprint(err)
	})
	select {
	case <-c.ended:
		w.Errorf("%s has ended: %s", what, c.output.String())
	default:
	}
}

// TestReplicationOutlivesConmgr: each way in which a conmgr ends or gives the server up, beside
// replication connections of its host.
func TestReplicationOutlivesConmgr(t *testing.T) {
	w := newWorld(t, pgtest.Set("wal_level", "logical"), pgtest.Set("max_replication_slots", "20"))
	for i, c := range []struct {
		name   string
		fault  func(*cmtest.Conmgr, *testnet.Host)
		reason string // in the server's log
		dead   bool
	}{
		{name: "goodbye", reason: `The conmgr process has ended\.`,
			fault: func(cm *cmtest.Conmgr, _ *testnet.Host) { cm.Signal(syscall.SIGTERM) }},
		{name: "killed", reason: `closed its heartbeat connection and did not resume\.`,
			fault: func(cm *cmtest.Conmgr, _ *testnet.Host) { cm.Signal(syscall.SIGKILL) }},
		{name: "given up", reason: `has declared this instance lost\.`,
			fault: func(cm *cmtest.Conmgr, _ *testnet.Host) {
				worker, mark := w.primary.Worker(workerTitle), cm.Mark()
				_ = syscall.Kill(worker, syscall.SIGSTOP)
				cm.WaitLog(mark, `is lost`, patience)
				_ = syscall.Kill(worker, syscall.SIGCONT)
			}},
		{name: "host cut", reason: `Nothing was received`, dead: true,
			fault: func(_ *cmtest.Conmgr, host *testnet.Host) { w.net.Isolate(host) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			host := w.net.Host(fmt.Sprintf("client%d", i))
			cm := w.conmgr(host, "300ms", "900ms")
			slot := fmt.Sprintf("slot%d", i)
			w.primary.Exec("SELECT pg_create_logical_replication_slot($1, 'test_decoding')", slot)
			consumers := map[string]*consumer{
				"pg_receivewal":  w.receiveWAL(host),
				"pg_recvlogical": w.consume(host, "pg_recvlogical", "-f", "DIR/out", "--start", "--slot", slot),
			}
			s := w.session(host, "BEGIN")
			since := w.primary.LogSize()
			c.fault(cm, host)
			w.waitGone(s.pid, patience, "the client session")
			spared := `.* Its host lives: connections that end by silence only, and are spared: 2\.`
			if c.dead {
				spared = ""
			}
			w.primary.WaitLog(since, `terminated connections: ipaddress="`+host.Addr4.String()+`"(?s:.*)`+c.reason+spared, patience)
			for name, consumer := range consumers {
				if c.dead {
					w.waitGone(consumer.sender, patience, "the walsender of "+name)
				} else {
					w.streams(consumer, name)
				}
			}
		})
	}
}

// TestShutdownDeliversWAL: a fast shutdown with a receiver that lags. The conmgrs are told at once,
// nothing of ours cuts the receiver off, and it gets the record of the shutdown's checkpoint.
func TestShutdownDeliversWAL(t *testing.T) {
	w := newWorld(t, pgtest.Set("wal_keep_size", "256MB"))
	host := w.net.Host("client")
	cm := w.conmgr(host, "300ms", "900ms")
	receiver := w.receiveWAL(host)
	_ = receiver.cmd.Process.Signal(syscall.SIGSTOP)
	// more than what sockets hold
	w.primary.Exec("CREATE TABLE t AS SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g")
	since := w.primary.LogSize()
	if err := syscall.Kill(w.primary.PostmasterPid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "conmgr knows of the shutdown", func() (bool, string) {
		state := cm.Show("SHOW INSTANCES")[0]["state"]
		return state != "established", state
	})
	sender := false
	for _, p := range w.primary.Processes() {
		sender = sender || p.Pid == receiver.sender
	}
	if !sender {
		t.Fatalf("the server has not waited for its receiver: %v", w.primary.Processes())
	}
	_ = receiver.cmd.Process.Signal(syscall.SIGCONT)
	_ = w.primary.WaitEnd()
	<-receiver.ended
	w.noLog(since, `terminated connections`)

	control, err := w.primary.Command(context.Background(), "pg_controldata", "-D", w.primary.DataDir).Output()
	m := regexp.MustCompile(`Latest checkpoint location: *(\S+)\n(?s:.*)REDO WAL file: *(\S+)`).FindSubmatch(control)
	if err != nil || m == nil {
		t.Fatalf("pg_controldata: %v\n%s", err, control)
	}
	segment := filepath.Join(receiver.dir, string(m[2]))
	if err := os.Rename(segment+".partial", segment); err != nil {
		t.Fatalf("%v\n%s", err, receiver.output.String())
	}
	// fails after the last record, which is none
	dump, _ := exec.Command(w.program("pg_waldump"), segment).CombinedOutput()
	if !regexp.MustCompile(`CHECKPOINT_SHUTDOWN redo ` + string(m[1]) + `;`).Match(dump) {
		t.Errorf("the receiver has no checkpoint at %s:\n%.2000s", m[1], dump)
	}
}
