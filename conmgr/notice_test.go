package conmgr

// Tests of what a bound connection is told without being ended.

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/cm"
)

func TestNoticeIsForThoseWhoAsked(t *testing.T) {
	r := static(t, "", primary, standby)
	asked, silent, elsewhere := r.connect(), r.connect(), r.connect()
	asked.query("SHOW TARGET primary NOTIFY")
	silent.query("SHOW TARGET primary")
	elsewhere.query("SHOW TARGET standby NOTIFY")
	if n := r.d.registry.Notify(0, cm.NoticeDraining); n != 1 {
		t.Errorf("%d are told", n)
	}
	if got := asked.until("S(conmgr.notice=draining)"); got != "S(conmgr.notice=draining)" {
		t.Errorf("got %s", got)
	}
	for _, c := range []*client{asked, silent, elsewhere} {
		if got := c.query("-- ping"); got != "I Z" {
			t.Errorf("got %s", got)
		}
	}
	silent.query("SHOW TARGET primary NOTIFY") // asked again, with it
	asked.query("SHOW TARGET primary")         // and without
	if n := r.d.registry.Notify(0, cm.NoticeServing); n != 1 {
		t.Errorf("%d are told", n)
	}
	silent.until("S(conmgr.notice=serving)")
}

// A client that does not read holds up nobody, and is told the last notice when it reads.
func TestNoticeDoesNotWait(t *testing.T) {
	r := static(t, "", primary)
	c := r.connect()
	c.query("SHOW TARGET primary NOTIFY")
	many := strings.Repeat("SHOW HELP;", 800)
	stop := make(chan struct{})
	go func() { // until conmgr's goroutine waits for the client
		defer close(stop)
		b, _ := (&pgproto3.Query{String: many}).Encode(nil)
		for {
			c.c.SetWriteDeadline(time.Now().Add(2 * time.Second))
			if _, err := c.c.Write(b); err != nil {
				return
			}
		}
	}()
	<-stop
	for _, n := range []string{cm.NoticeDraining, cm.NoticeServing, cm.NoticeDraining, "x last"} {
		r.d.registry.Notify(0, n)
	}
	if got := c.until("S(conmgr.notice=x last)"); strings.Contains(got, cm.NoticeServing) {
		t.Error("an earlier notice came")
	}
	r.lose(0)
	if got := c.until(""); !strings.Contains(got, "E(FATAL 57P01 instance 0") {
		t.Errorf("after the loss: %.300s", got[max(0, len(got)-300):])
	}
}
