package watch

// A server that has said goodbye still delivers to whoever is connected, for as long as that takes.
// Its watchdog has ended, so that its SQL port is asked for its life, once a heartbeat_interval:
// goroutines of the instance's own, one a question, which block until heartbeat_timeout at most.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// stopQuiet is how long a server that has said that it shuts down is believed by its answers to
// SSLRequest, which leave no line in its log; then it is asked again. (One that was started again
// answers that, too.)
const stopQuiet = 10 * time.Second

// maxStopQuestions is how many may wait for their answers at a time.
const maxStopQuestions = 8

// stopReply is an answer, and when it came.
type stopReply struct {
	at     clock.Mono
	answer heartbeat.StopAnswer
}

// stopWatch asks one server.
type stopWatch struct {
	dial    func(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error)
	now     clock.Clock
	limit   time.Duration
	to      netip.AddrPort
	replies chan stopReply

	said    atomic.Int64 // Mono at which the server last said in words that it shuts down; 0: never
	pending atomic.Int32
}

// watchStop begins to ask. cancel ends it, without waiting.
func (in *Instance) watchStop(ctx context.Context) {
	ctx, in.endStop = context.WithCancel(ctx)
	w := &stopWatch{dial: in.net.Dial, now: in.now, limit: in.conf.HeartbeatTimeout,
		replies: make(chan stopReply, maxStopQuestions),
		to:      netip.AddrPortFrom(in.hostAddr, uint16(in.cfg.Port))}
	in.stopReplies = w.replies
	in.group.Go("shutdown watch", func() {
		every := time.NewTicker(in.conf.HeartbeatInterval)
		defer every.Stop()
		for {
			if w.pending.Add(1) <= maxStopQuestions {
				in.group.Go("shutdown question", func() { w.ask(ctx) })
			} else {
				w.pending.Add(-1)
			}
			select {
			case <-every.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// unwatchStop ends the questions.
func (in *Instance) unwatchStop() {
	if in.endStop != nil {
		in.endStop()
		in.endStop, in.stopReplies = nil, nil
	}
}

func (w *stopWatch) ask(ctx context.Context) {
	defer w.pending.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	quiet := w.said.Load() != 0 && w.now().Sub(clock.Mono(w.said.Load())) < stopQuiet
	answer := w.question(ctx, quiet)
	if quiet && answer == heartbeat.StopSilent {
		answer = w.question(ctx, false)
	}
	select {
	case w.replies <- stopReply{w.now(), answer}:
	case <-ctx.Done():
	}
}

// question makes one connection. A quiet one asks for encryption and closes: the server's
// postmaster answers as long as it is there, and logs nothing. Else it begins a session, which the
// server refuses with its reason, before it looks at the user: a line of its log.
func (w *stopWatch) question(ctx context.Context, quiet bool) heartbeat.StopAnswer {
	c, err := w.dial(ctx, netip.Addr{}, w.to)
	if err != nil {
		if errors.Is(err, unix.ECONNREFUSED) {
			return heartbeat.StopRefused
		}
		return heartbeat.StopSilent
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(netio.LongPast) })()
	request := startupPacket
	if quiet {
		request = sslRequest
	}
	if _, err := c.Write(request); err != nil {
		return heartbeat.StopSilent
	}
	var buf [1024]byte
	n, err := io.ReadAtLeast(c, buf[:], 1)
	if quiet && n == 1 && (buf[0] == 'S' || buf[0] == 'N') {
		return heartbeat.StopGoesOn
	}
	if err == nil {
		k, _ := io.ReadFull(c, buf[n:]) // the server closes
		n += k
	}
	if errorCode(buf[:n]) != cm.CannotConnectNow {
		return heartbeat.StopSilent
	}
	w.said.Store(int64(w.now()))
	return heartbeat.StopGoesOn
}

// sslRequest and startupPacket are the two questions.
var (
	sslRequest    = pgwire.StartupPacket(pgwire.SSLRequestCode)
	startupPacket = pgwire.StartupPacket(pgwire.Protocol3, "user", "conmgr", "database", "postgres",
		"application_name", "conmgr")
)

// errorCode is the SQLSTATE of an ErrorResponse, "" if b is none.
func errorCode(b []byte) string {
	if len(b) < 5 || b[0] != 'E' {
		return ""
	}
	for fields := b[5:]; len(fields) > 0 && fields[0] != 0; {
		kind, rest := fields[0], fields[1:]
		end := 0
		for end < len(rest) && rest[end] != 0 {
			end++
		}
		if end == len(rest) {
			return ""
		}
		if kind == 'C' {
			return string(rest[:end])
		}
		fields = rest[end+1:]
	}
	return ""
}
