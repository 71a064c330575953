package libpqtest

// Connecting asynchronously, and again: no call blocks, whatever conmgr does.

import (
	"fmt"
	"strings"
	"testing"
)

func TestAsynchronous(t *testing.T) {
	cm := conmgr(t)
	out := output(t, byPath(), "async", dsn(cm.Port(), ""))
	wantAll(t, out, "connected: port "+primary.port, "awaited conmgr yes", "sockets many")
	wantAll(t, output(t, byPath(), "async", dsn(primary.port, "")), "connected: port "+primary.port,
		"awaited conmgr no", "sockets one")

	cm.Freeze(true)
	for _, more := range []string{"", "sslmode=require"} {
		out = output(t, byPath(), "async", dsn(cm.Port(), more), "500")
		wantAll(t, out, "gave up: status", "at localhost (127.0.0.1) port "+cm.Port())
		if strings.Contains(out, "could not match") {
			t.Errorf("an error that is of no concern: %s", out)
		}
		wantNoWait(t, out)
	}
}

// conmgr that answers the startup and then nothing: the state has its own name.
func TestAwaitingConmgr(t *testing.T) {
	cm := conmgr(t)
	cm.FreezeAnswers(true)
	out := output(t, byPath(), "async", dsn(cm.Port(), ""), "500")
	wantAll(t, out, "gave up: status 1000", "at localhost (127.0.0.1) port "+cm.Port()+" said <>")
	cm.FreezeAnswers(false)
}

// PQresetStart and PQresetPoll lead to where the attribute is now.
func TestAsynchronousReset(t *testing.T) {
	for how, lose := range map[string]bool{"moved": false, "lost": true} {
		t.Run(how, func(t *testing.T) {
			cm := conmgr(t)
			c := converse(t, byPath(), "async", dsn(cm.Port(), "target_session_attrs=read-write"), "20000", "reset")
			wantAll(t, c.until("ready"), "connected: port "+primary.port)
			if lose {
				cm.Lose(0)
			}
			cm.Set(primary.instance(0, isStandby), standby.instance(1, isPrimary))
			fmt.Fprintln(c.in)
			wantAll(t, c.rest(), "connected: port "+standby.port+" awaited conmgr yes sockets many",
				"reset to "+standby.port)
			if err := cm.WaitBound(0); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		dead := at(0, "localhost", freePort(t), isPrimary)
		cm := conmgr(t)
		c := converse(t, byPath(), "async", dsn(cm.Port(), "target_session_attrs=primary"), "20000", "reset")
		c.until("ready")
		cm.Set(dead, standby.instance(1, isPrimary))
		fmt.Fprintln(c.in)
		wantAll(t, c.rest(), "reset to "+standby.port)
	})
	t.Run("frozen", func(t *testing.T) {
		cm := conmgr(t)
		c := converse(t, byPath(), "async", dsn(cm.Port(), ""), "500", "reset")
		c.until("ready")
		cm.FreezeAnswers(true)
		fmt.Fprintln(c.in)
		out := c.rest()
		wantAll(t, out, "gave up: status 1000")
		wantNoWait(t, out)
	})
	t.Run("nobody", func(t *testing.T) {
		cm := conmgr(t)
		c := converse(t, byPath(), "async", dsn(cm.Port(), "target_session_attrs=primary"), "20000", "reset")
		c.until("ready")
		cm.Set()
		fmt.Fprintln(c.in)
		wantAll(t, c.rest(), "failed: connection to server at", "no target server address from Connection Manager")
	})
}

// wantNoWait wants no call to have waited, which here would be for ever: what it took beside is this
// machine's.
func wantNoWait(t *testing.T, out string) {
	t.Helper()
	var longest float64
	if _, err := fmt.Sscanf(from(out, "longest"), "longest call %f", &longest); err != nil || longest > 2000 {
		t.Errorf("%v %s", err, out)
	}
}

// from is the rest of text from a word on; all of it, which then does not match, without the word.
func from(text, word string) string {
	if i := strings.Index(text, word); i >= 0 {
		return text[i:]
	}
	return text
}
