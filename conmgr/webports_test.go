package conmgr

// Tests of the HTTP ports: at a start, and over a restart in place.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/handover"
)

// successor is what a daemon becomes.
func (r *rig) successor(before *handover.Record) *daemon {
	d := &daemon{deps: r.d.deps, conf: r.d.conf, events: r.d.events, registry: r.d.registry, board: r.d.board,
		watching: r.d.watching}
	d.before = before
	d.watching.serve(d)
	return d
}

// A health check that comes while conmgr is restarted in place waits for its answer, which is that
// of the instances of before; also where the ports of before are in the way of the new ones.
func TestHTTPPortsStayOpen(t *testing.T) {
	for _, addresses := range []string{"127.0.0.1", "0.0.0.0"} {
		r := staticWith(t, "", withHTTP(t, 1), primary)
		port := r.d.watching.web.Addr(1)
		before := &handover.Record{HTTP: r.d.watching.web.Leave()}
		if len(before.HTTP) != 2 {
			t.Fatalf("%d ports are left", len(before.HTTP))
		}
		c, err := net.Dial("tcp", port.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "OPTIONS /primary HTTP/1.0\r\n\r\n")
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		second := r.successor(before)
		second.conf.HTTPAddresses = []string{addresses}
		if err := second.watching.start(ctx, second); err != nil {
			t.Fatal(err)
		}
		defer second.watching.web.Close()
		if addresses == "127.0.0.1" { // else the one who waits is on a port that is shut
			c.SetDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("answered before there are instances: %v", err)
			}
			second.watching.web.Serve()
			b := make([]byte, 12)
			c.SetDeadline(time.Now().Add(patience))
			if _, err := c.Read(b); err != nil || string(b) != "HTTP/1.0 200" {
				t.Errorf("%q, %v", b, err)
			}
			continue
		}
		second.watching.web.Serve()
		if r.logged("are not answered") != 0 {
			t.Error("other addresses could not be opened")
		}
		if code, _, _ := ask(t, "OPTIONS", "http://"+port.String()+"/primary"); code != 200 {
			t.Errorf("at other addresses: %d", code)
		}
	}
}

// A port that is taken keeps conmgr from starting, but not from going on after a restart in place, as for a
// reload: sessions would end by that.
func TestHTTPPortIsTaken(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 0), primary)
	second := r.successor(nil) // at the same port
	err := second.watching.start(context.Background(), second)
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("at a start: %v", err)
	}
	second.before = &handover.Record{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := second.watching.start(ctx, second); err != nil {
		t.Errorf("after a restart in place: %v", err)
	}
	if r.logged("metrics and health checks are not answered: could not listen on 127.0.0.1:") != 1 {
		t.Error("the log does not tell")
	}
	if code, _, _ := ask(t, "GET", r.url(0, "/status")); code != 200 {
		t.Errorf("who has the port does not answer: %d", code)
	}
}
