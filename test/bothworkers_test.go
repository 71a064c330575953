package test

// Both workers end and are started again: a postmaster that has missed the end of one of them, and
// verdicts that are put off meanwhile.

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// pendingSignal tells whether a signal waits for a process.
func pendingSignal(t *testing.T, pid int, sig syscall.Signal) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^ShdPnd:\s*([0-9a-f]+)$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no pending signals in %s", text)
	}
	mask, err := strconv.ParseUint(string(m[1]), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return mask>>(sig-1)&1 != 0
}

// TestPostmasterIsWoken: a postmaster that does not start a worker again is woken by the other one.
// It is stopped here, so that the signal waits.
func TestPostmasterIsWoken(t *testing.T) {
	for name, title := range map[string]string{"watchdog": workerTitle, "terminator": terminatorTitle} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			client := w.net.Host("client")
			cm := w.conmgr(client, "1s", "10s")
			s, mark := w.session(client, "BEGIN"), cm.Mark()
			postmaster, pid := w.primary.PostmasterPid(), w.primary.Worker(title)
			if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = syscall.Kill(postmaster, syscall.SIGCONT) }()
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a signal waits for the postmaster", func() (bool, string) {
				return pendingSignal(t, postmaster, syscall.SIGUSR1), ""
			})
			_ = syscall.Kill(postmaster, syscall.SIGCONT)
			eventually(t, title+" is back", func() (bool, string) {
				now := w.primary.WorkerPid(title)
				return now != 0 && now != pid, fmt.Sprint(now)
			})
			if name == "watchdog" {
				cm.WaitLog(mark, "heartbeat connection is established", patience)
			}
			w.alive(s, "a session meanwhile")
		})
	}
}

// TestPutOffOverRestarts: a conmgr says goodbye while another one of its host lives, which then falls
// silent. The verdict falls when the host was not heard of for the first one's heartbeat_timeout,
// though the worker is restarted meanwhile, more than once.
func TestPutOffOverRestarts(t *testing.T) {
	const timeout = 6 * time.Second
	w := newWorld(t)
	client := w.net.Host("client")
	start := func(port int, timeout string) *cmtest.Conmgr {
		c := cmtest.Start(t, client, cmtest.Config{Interval: "1s", Timeout: timeout, Clusters: []*pgtest.Cluster{w.primary}, Port: port})
		c.WaitInstance(0, "state", "established")
		return c
	}
	first, other := start(27546, timeout.String()), start(27547, "60s")
	s := w.session(client, "BEGIN")
	since := w.primary.LogSize()
	first.Signal(syscall.SIGTERM)
	w.primary.WaitLog(since, `no session of .* is terminated but those with the label`, patience)
	other.Signal(syscall.SIGSTOP)
	silent := time.Now()
	for _, after := range []time.Duration{timeout / 2, timeout * 3 / 4} {
		eventually(t, "some time", func() (bool, string) { return time.Since(silent) > after, "" })
		w.restartWorker(workerTitle)
		w.alive(s, "the session, before its time")
	}
	w.waitGone(s.pid, patience, "the session")
	took := time.Since(silent)
	t.Logf("it ended %v after the silence began", took)
	if took > timeout*3/2 { // with each restart's time from the beginning: 1.75 times
		t.Errorf("that is too late")
	}
	other.Signal(syscall.SIGCONT)
}
