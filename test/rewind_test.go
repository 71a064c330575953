package test

// pg_rewind of a former primary, on a database host that has a conmgr as well. Its session on the
// new primary is an ordinary one, and what is left of an interrupted pg_rewind may be unusable.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const silenceOnly = "watchdog.terminate_on_silence_only"

// rewind is a pg_rewind that is stopped while it copies.
type rewind struct {
	cmd     *exec.Cmd
	output  bytes.Buffer
	ended   chan error
	backend int
	bulk    string // the file that it copies, on the source
}

// rewindWorld is a former primary, stopped, whose host is a client host of the new one.
type rewindWorld struct {
	*world
	old *pgtest.Cluster
}

func newRewindWorld(t *testing.T) *rewindWorld {
	w := newWorld(t, pgtest.Set("wal_log_hints", "on"), pgtest.Set("full_page_writes", "on"),
		pgtest.Set("wal_keep_size", "256MB"))
	old := w.primary
	w.primary = old.Standby("second", pgtest.Host(w.net.Host("db2")))
	old.Exec("CREATE ROLE rewinder LOGIN SUPERUSER")
	w.primary.Promote()
	w.primary.Exec("CHECKPOINT") // pg_rewind goes by the timeline in pg_control
	old.Exec("CREATE TABLE lost AS SELECT generate_series(1, 1000)")
	w.admin.Close()
	old.Stop(pgtest.Fast)
	w.admin = w.primary.Admin()
	t.Cleanup(func() { w.admin.Close() })
	return &rewindWorld{world: w, old: old}
}

// copyOfOld is a copy of the former primary's data directory: a pg_rewind that fails spoils it.
func (w *rewindWorld) copyOfOld() string {
	w.Helper()
	dir := filepath.Join(filepath.Dir(w.old.DataDir), filepath.Base(w.T.Name()))
	if out, err := exec.Command("cp", "-a", w.old.DataDir, dir).CombinedOutput(); err != nil {
		w.Fatalf("%v: %s", err, out)
	}
	w.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// rewind starts a pg_rewind, and stops it in the middle of a file which it copies as a whole.
func (w *rewindWorld) rewind(target, conninfo string) *rewind {
	w.Helper()
	const name, size = "bulk", 2 << 30
	r := &rewind{ended: make(chan error, 1), bulk: filepath.Join(w.primary.DataDir, name)}
	if err := os.WriteFile(r.bulk, nil, 0o644); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { os.Remove(r.bulk) })
	if err := os.Truncate(r.bulk, size); err != nil {
		w.Fatal(err)
	}
	r.cmd = w.old.Command(context.Background(), "pg_rewind", "-R", "--no-sync", "-D", target, "--source-server",
		fmt.Sprintf("host=%s port=%d dbname=postgres sslmode=disable user=rewinder %s", w.primary.Addr(),
			w.primary.Port, conninfo))
	r.cmd.Stdout, r.cmd.Stderr = &r.output, &r.output
	if err := r.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- r.cmd.Wait()
	}()
	w.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-done
	})
	eventually(w, "pg_rewind copies", func() (bool, string) {
		select {
		case <-done:
			w.Fatalf("pg_rewind has ended: %s", r.output.String())
		default:
		}
		info, err := os.Stat(filepath.Join(target, name))
		return err == nil && info.Size() > 0, fmt.Sprint(err)
	})
	_ = r.cmd.Process.Signal(syscall.SIGSTOP)
	err := w.admin.QueryRow("SELECT pid FROM pg_stat_activity WHERE usename = 'rewinder'").Scan(&r.backend)
	if err != nil {
		w.Fatalf("the session of pg_rewind: %v", err)
	}
	return r
}

// finish lets a pg_rewind go on to its end. The rest of the large file is spared.
func (r *rewind) finish() error {
	_ = os.Remove(r.bulk)
	_ = r.cmd.Process.Signal(syscall.SIGCONT)
	if err := <-r.ended; err != nil {
		return fmt.Errorf("%w: %s", err, r.output.String())
	}
	return nil
}

// TestRewind: cm_ctl stop, and then the host's silence, in the middle of a pg_rewind that is not
// named, that names itself, and whose role has a name.
func TestRewind(t *testing.T) {
	w := newRewindWorld(t)
	host := w.db
	goodbye := func(w *rewindWorld, cm *cmtest.Conmgr, spared string) {
		s := w.session(host, "BEGIN")
		since := w.primary.LogSize()
		cm.Signal(syscall.SIGTERM)
		w.waitGone(s.pid, patience, "the client session")
		w.primary.WaitLog(since, `terminated connections: ipaddress="`+host.Addr4.String()+
			`", count=\d+\s.*The conmgr process has ended\.`+spared+`\n`, patience)
	}
	start := func(t *testing.T, names string) (*rewindWorld, *cmtest.Conmgr) {
		w := &rewindWorld{world: w.in(t), old: w.old}
		w.primary.Configure(silenceOnly, names)
		w.primary.Reload()
		return w, w.conmgr(host, "300ms", "900ms")
	}
	const spared = ` Its host lives: connections that end by silence only, and are spared: 1\.`

	t.Run("an ordinary session ends", func(t *testing.T) {
		w, cm := start(t, "pg_rewind")
		r := w.rewind(w.copyOfOld(), "")
		goodbye(w, cm, "")
		w.waitGone(r.backend, patience, "the session of pg_rewind")
		if err := r.finish(); err == nil {
			t.Errorf("pg_rewind has succeeded: %s", r.output.String())
		}
	})
	t.Run("silence ends one with a name", func(t *testing.T) {
		w, _ := start(t, "pg_rewind")
		r := w.rewind(w.copyOfOld(), "application_name=pg_rewind")
		fault := w.net.Isolate(host)
		defer fault.Heal()
		w.waitGone(r.backend, patience, "the session of pg_rewind")
	})
	t.Run("one with a name goes on", func(t *testing.T) {
		w, cm := start(t, `other, "with space", pg_rewind`)
		r := w.rewind(w.copyOfOld(), "application_name=pg_rewind")
		goodbye(w, cm, spared)
		if err := r.finish(); err != nil {
			t.Errorf("pg_rewind: %v", err)
		}
	})
	t.Run("the name is the role's", func(t *testing.T) {
		w, cm := start(t, "pg_rewind")
		w.primary.Exec("ALTER ROLE rewinder SET application_name = 'pg_rewind'")
		r := w.rewind(w.old.DataDir, "")
		goodbye(w, cm, spared)
		if err := r.finish(); err != nil {
			t.Fatalf("pg_rewind: %v", err)
		}
		w.old.Configure("hot_standby", "on") // its own files again, in place of those of the source
		w.old.Start()
		eventually(t, "the former primary streams", func() (bool, string) {
			return w.primary.Value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1",
				w.old.Log()
		})
		testkit.Eventually(t, patience, "what was lost is lost", func() (bool, string) {
			return w.old.Value("SELECT to_regclass('lost') IS NULL") == "true", w.old.Log()
		})
	})
}
