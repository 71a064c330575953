package relay

// The way to an instance: a relayed connection is bound to one, waits for one if there is none, and
// dials it; if that fails, the next one. Run by the connection's goroutine.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// connect returns a connection to an instance. code is the SQLSTATE of the error.
func (c *relayed) connect() (server *net.TCPConn, code string, err error) {
	if c.until.IsZero() {
		c.until = time.Now().Add(c.relays.conf.Load().TargetWait)
	}
	var failed bind.LeftOut
	var failures []string
	for {
		a, err := c.seek(failed, time.Until(c.until))
		switch {
		case err != nil:
			return nil, "", err
		case a.Shutdown:
			c.relays.trace.Rejected(&c.Seat)
			return nil, cm.CannotConnectNow, errors.New(bind.ShutdownText)
		case a.Full != "":
			c.relays.trace.NoPlace(&c.Seat, a.Full)
			return nil, cm.TooManyConnections, errors.New(a.Full)
		}
		asked := bind.Request{Want: c.port.Attribute, Except: failed.In(a.Table)}
		c.relays.trace.Bound(&c.Seat, asked, a.Table, a.Index, a.How)
		if a.Index < 0 {
			detail := "No instance has the attribute " + string(c.port.Attribute) + ": " +
				a.Table.Describe(asked) + "."
			if len(failures) > 0 {
				detail = "Could not connect: " + strings.Join(failures, "; ") + "."
			}
			return nil, cm.CannotEstablish, &backend.Error{Text: "no target server address from Connection Manager", Detail: detail}
		}
		e := &a.Table.Entries[a.Index]
		conn, err := c.dial(e)
		if err == nil || err == errClientGone {
			return conn, "", err
		}
		text := netio.Text(err)
		if errors.Is(err, context.DeadlineExceeded) {
			text = "no answer"
		}
		text = fmt.Sprintf("instance %d (host %q, address %s, port %d): %s", e.Config.Number, e.Config.Name(), e.Address(),
			e.Config.Port, text)
		c.relays.events.Emit(event.RelayFailed{Why: text})
		failures = append(failures, text)
		failed = append(failed, a.Table.LeaveOut([]int{e.Config.Number})...)
	}
}

// seek binds the connection; for so long it waits. The error is that the client has left, or is left
// to the next process.
func (c *relayed) seek(failed bind.LeftOut, most time.Duration) (bind.Answer, error) {
	r, load := c.relays.registry, c.relays.board.Table.Load
	ctx, wake := context.WithTimeout(context.Background(), max(0, most))
	defer wake()
	c.begin(wake) // who is bound here may be ended at once
	w := &bind.Waiter{Member: c, Target: string(c.port.Attribute), Wait: most, Wake: wake}
	w.Choose = func(t *bind.Table, l bind.Load) (i int) {
		i, w.How = t.Pick(bind.Request{Want: c.port.Attribute, Except: failed.In(t)}, l)
		return i
	}
	a, waits := r.Seek(w, load)
	if !waits {
		return a, nil
	}
	c.relays.trace.Waits(&c.Seat, c.port.Attribute, most)
	c.conn.SetDeadline(time.Now().Add(most + relayStartup)) // else that ended the watch
	var left atomic.Bool
	stop := c.watch(false, func() { left.Store(true); wake() })
	select {
	case <-ctx.Done():
	case <-c.relays.leaving:
	}
	stop()
	switch {
	case left.Load():
		r.Abandon(w)
		return bind.Answer{}, errClientGone
	case ctx.Err() == nil:
		r.Abandon(w)
		return bind.Answer{}, errHandedOver
	}
	defer r.Answered(c)
	return r.Leave(w, load), nil
}

// dial connects to the instance that the connection is bound to.
func (c *relayed) dial(e *bind.Entry) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.relays.conf.Load().ConnectTimeout)
	defer cancel()
	if !c.phase(cancel) {
		return nil, errRelayEnded
	}
	var left atomic.Bool
	stop := c.watch(false, func() { left.Store(true); cancel() })
	conn, err := netio.Dial(ctx, netip.Addr{}, netip.AddrPortFrom(e.Address(), uint16(e.Config.Port)))
	stop()
	c.conn.SetDeadline(time.Now().Add(relayStartup)) // before phase: an end from here on sets its own
	switch {
	case left.Load():
		err = errClientGone
	case !c.phase(c.wake):
		err = errRelayEnded
	case err == nil:
		return conn, nil
	}
	if conn != nil {
		conn.Close()
	}
	return nil, err
}
