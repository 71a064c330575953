package test

// watchdog_doctor(): a healthy server has no warning, and each thing that is wrong has its own.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// serverFinding is a row of watchdog_doctor().
type serverFinding struct{ check, status, detail, advice string }

func (w *world) serverDoctor() (all []serverFinding) {
	w.Helper()
	for _, r := range w.primary.Query(`SELECT "check", status, detail, coalesce(advice, '') FROM watchdog_doctor()`) {
		all = append(all, serverFinding{r[0], r[1], r[2], r[3]})
	}
	return all
}

// trouble are the findings that are not ok.
func (w *world) serverTrouble() (all []serverFinding) {
	w.Helper()
	for _, f := range w.serverDoctor() {
		if f.status != "ok" {
			all = append(all, f)
		}
	}
	return all
}

func (w *world) serverHealthy(what string) {
	w.Helper()
	eventually(w, what+": the doctor finds nothing", func() (bool, string) {
		found := w.serverTrouble()
		return len(found) == 0, fmt.Sprintf("%+v", found)
	})
}

// serverFinds waits until a check has a status, with that in its detail and in its advice, and no other one
// has any.
func (w *world) serverFinds(check, status, detail, advice string) {
	w.Helper()
	eventually(w, "the doctor finds what is wrong with "+check, func() (bool, string) {
		found := w.serverTrouble()
		ok := len(found) == 1 && found[0].check == check && found[0].status == status &&
			strings.Contains(found[0].detail, detail) && strings.Contains(found[0].advice, advice)
		return ok, fmt.Sprintf("%+v", found)
	})
}

// configure changes a setting, and has the server read it.
func (w *world) configure(name, value string) {
	w.Helper()
	w.primary.Configure(name, value)
	w.primary.Reload()
}

// TestServerDoctor: one thing after the other is wrong, is found, with what to do about it, and is mended.
func TestServerDoctor(t *testing.T) {
	w := newWorld(t, pgtest.Set("max_connections", "30"), pgtest.Set("watchdog.max_heartbeat_connections", "4"),
		pgtest.Set("max_prepared_transactions", "3"))
	client, stranger := w.net.Host("client"), w.net.Host("stranger")
	w.serverFinds("conmgr processes", "warning", "None is connected", "Start conmgr")
	cm := w.conmgr(client, "100ms", "2s")
	s := w.session(client, "BEGIN")
	w.session(w.db)        // of the server's own machine
	w.receiveWAL(stranger) // wal_sender_timeout looks after it
	w.serverHealthy("at the begin")
	checks := map[string]bool{}
	for _, f := range w.serverDoctor() {
		checks[f.check] = true
	}
	if len(checks) != 18 {
		t.Errorf("%d checks: %v", len(checks), checks)
	}

	t.Run("sessions without conmgr", func(t *testing.T) {
		w := w.in(t)
		lonely := w.session(stranger)
		eventually(t, "it is found, and nothing else", func() (bool, string) { // conmgr may be late, too, for a moment
			found := w.serverTrouble()
			return len(found) == 2 && found[0].check == "sessions" && contains(found[0].detail, "1 are not") && found[1].check == "addresses" &&
				contains(found[1].detail, stranger.Addr4.String()+" (1)") && contains(found[1].advice, "Start conmgr"), fmt.Sprintf("%+v", found)
		})
		lonely.conn.Close()
		lonely.db.Close()
		w.serverHealthy("without it")
	})
	for _, c := range []struct{ name, setting, bad, good, check, detail, advice string }{
		{"walsenders for ever", "wal_sender_timeout", "0", "60s", "replication", "outlive their hosts", "Set wal_sender_timeout"},
		{"terminate", "watchdog.terminate", "off", "on", "terminate", "no session of a dead host is terminated", "watchdog.terminate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			w.configure(c.setting, c.bad)
			w.serverFinds(c.check, "warning", c.detail, c.advice)
			w.configure(c.setting, c.good)
			w.serverHealthy("with " + c.good)
		})
	}
	t.Run("draining", func(t *testing.T) {
		w := w.in(t)
		w.primary.Exec("SELECT watchdog_drain(true)")
		w.serverFinds("draining", "warning", "is drained", "watchdog_drain(false)")
		w.primary.Exec("SELECT watchdog_drain(false)")
		w.serverHealthy("not drained")
	})
	t.Run("prepared transactions", func(t *testing.T) {
		w := w.in(t)
		w.primary.Exec("BEGIN; CREATE TABLE prepared (i int); PREPARE TRANSACTION 'p'")
		w.serverHealthy("a young one")
		w.primary.Exec("ROLLBACK PREPARED 'p'")
	})
	t.Run("keys", func(t *testing.T) {
		w := w.in(t)
		w.configure("watchdog.key_file", "nowhere")
		w.serverHealthy("off")
		w.configure("watchdog.authentication", "prefer")
		w.serverFinds("authentication", "error", `"nowhere" cannot be used (it is not there): no conmgr`, "permissions of a private key")
		path := filepath.Join(w.primary.DataDir, "nowhere")
		text := "# no key\n"
		write := func(mode os.FileMode) {
			if err := os.WriteFile(path, []byte(text), mode); err != nil {
				t.Fatal(err)
			}
			owner, err := os.Stat(w.primary.DataDir)
			if err != nil {
				t.Fatal(err)
			}
			as := owner.Sys().(*syscall.Stat_t)
			if err := errors.Join(os.Chmod(path, mode), os.Chown(path, int(as.Uid), int(as.Gid))); err != nil {
				t.Fatal(err)
			}
		}
		write(0o644)
		w.primary.Reload()
		w.serverFinds("authentication", "error", "others may read it", "permissions of a private key")
		write(0o600)
		w.primary.Reload()
		w.serverFinds("authentication", "warning", "has no key", "cm_ctl genkey")
		w.configure("watchdog.authentication", "off")
		w.serverHealthy("off again")
	})
	t.Run("port", func(t *testing.T) {
		w := w.in(t)
		l, err := w.db.Listen("tcp", w.db.Addr4.String()+":27999")
		if err != nil {
			t.Fatal(err)
		}
		mark := cm.Mark()
		w.configure("watchdog.port", "27999")
		w.serverFinds("heartbeat port", "error", "port 27999", "Is another server using watchdog.port")
		l.Close()
		w.serverHealthy("when the port is free")
		w.configure("watchdog.port", "27545")
		w.primary.WaitLog(0, "not listening for heartbeat connections any more on .* port=27999", patience)
		w.serverHealthy("at the port of before")
		w.alive(s, "a session from before")
		if l, found := cm.Find(mark, `is lost|is broken|closes|is resumed`); found {
			t.Errorf("the connection that stood did not stay: %s", l.Text)
		}
	})
	t.Run("a session that cannot end", func(t *testing.T) {
		w := w.in(t)
		stuck := w.session(client)
		if err := unix.Kill(stuck.pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		cm.Signal(syscall.SIGTERM)
		w.waitGone(s.pid, patience, "the other session of the host")
		eventually(t, "it is found", func() (bool, string) {
			for _, f := range w.serverTrouble() {
				if f.check == "ending sessions" && contains(f.detail, "1 sessions were told to end") {
					return true, ""
				}
			}
			return false, ""
		})
		_ = unix.Kill(stuck.pid, unix.SIGCONT)
		cm.Again()
		cm.WaitInstance(0, "state", "established")
		w.serverHealthy("when it has gone")
	})
	t.Run("a late conmgr", func(t *testing.T) {
		w := w.in(t)
		slow := cmtest.Start(w, client, cmtest.Config{Interval: "100ms", Timeout: "1min", Clusters: []*pgtest.Cluster{w.primary},
			Port: 27547})
		slow.WaitInstance(0, "state", "established")
		slow.Signal(syscall.SIGSTOP)
		w.serverFinds("conmgr processes", "warning", "1 are late", "last_received")
		slow.Signal(syscall.SIGCONT)
		w.serverHealthy("when it goes on")
	})
	t.Run("slots", func(t *testing.T) {
		w := w.in(t)
		for i := range 3 {
			c := cmtest.Start(w, client, cmtest.Config{Interval: "1s", Timeout: "1min", Clusters: []*pgtest.Cluster{w.primary},
				Port: 27548 + i})
			c.WaitLog(0, "is established|is refused|connect is refused", patience)
		}
		eventually(t, "the slots are found to be few", func() (bool, string) {
			found := w.serverTrouble()
			return len(found) > 0 && found[0].check == "slots" && contains(found[0].detail, "4 of 4 are taken", "found none") &&
				contains(found[0].advice, "Raise watchdog.max_heartbeat_connections"), fmt.Sprintf("%+v", found)
		})
	})
}

// TestServerDoctorWorkers: workers that do not run, a clock that was set, and an extension or a library that
// is not of the other's version.
func TestServerDoctorWorkers(t *testing.T) {
	w := newWorld(t, pgtest.ShiftedClock())
	w.conmgr(w.net.Host("client"), "1s", "10s")
	w.serverHealthy("at the begin")
	t.Run("the clock", func(t *testing.T) {
		w := w.in(t)
		w.primary.ShiftClock(time.Hour)
		w.serverFinds("clock", "warning", "It was set by 36", "NTP")
		w.primary.Restart()
		w.serverHealthy("after a restart")
		w.primary.ShiftClock(0)
		w.serverFinds("clock", "warning", "in the future", "NTP")
		w.primary.Restart()
	})
	t.Run("an older extension", func(t *testing.T) {
		w := w.in(t)
		w.primary.Exec("UPDATE pg_extension SET extversion = '1.1' WHERE extname = 'watchdog'")
		w.serverFinds("version", "warning", " is of 1.2, the extension in this database of 1.1, the installed files of 1.2", "ALTER EXTENSION")
		w.primary.Exec("UPDATE pg_extension SET extversion = '1.2' WHERE extname = 'watchdog'")
		w.serverHealthy("updated")
	})
	t.Run("few descriptors", func(t *testing.T) {
		w := w.in(t)
		var limit unix.Rlimit // the server's own, too
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		if limit.Max > 1<<30 {
			t.Skip("there is no limit of open files")
		}
		w.primary.Configure("max_files_per_process", fmt.Sprint(limit.Max))
		w.primary.Restart()
		w.serverFinds("open files", "warning", fmt.Sprintf("The hard limit is %d: max_files_per_process + watchdog.max_heartbeat_connections x 2 is ", limit.Max),
			"LimitNOFILE")
		w.primary.Configure("max_files_per_process", "1000")
		w.primary.Restart()
		w.serverHealthy("with enough")
	})
	t.Run("no terminator", func(t *testing.T) {
		w := w.in(t)
		w.primary.Configure("max_worker_processes", "2") // the server needs one
		w.primary.Restart()
		w.serverFinds("terminator worker", "error", "It does not run", "max_worker_processes")
	})
	t.Run("no worker", func(t *testing.T) {
		w := w.in(t)
		w.primary.Configure("max_worker_processes", "0")
		w.primary.Restart()
		errors := 0
		for _, f := range w.serverTrouble() {
			if f.status == "error" && contains(f.detail, "It does not run") && contains(f.advice, "max_worker_processes") {
				errors++
			}
		}
		if errors != 2 {
			t.Errorf("found: %+v", w.serverTrouble())
		}
	})
	t.Run("not loaded", func(t *testing.T) {
		w := w.in(t)
		w.primary.Configure("shared_preload_libraries", "")
		w.primary.Restart()
		w.serverFinds("preload", "error", "not loaded", "shared_preload_libraries")
	})
}
