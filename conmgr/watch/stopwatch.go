package watch

// The questions to the SQL port of a server that shuts down: a goroutine each, which blocks until
// heartbeat_timeout at most.

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/instance"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// ask asks one question.
func (in *Instance) ask(to netip.AddrPort, q instance.Question) {
	if in.questions == nil {
		in.questions, in.endStop = context.WithCancel(in.ctx)
	}
	all := in.questions
	in.group.Go("shutdown question", func() {
		ctx, cancel := context.WithTimeout(all, q.Until.Sub(in.now()))
		defer cancel()
		answer := question(ctx, in.net, to, q.Quiet)
		in.post(all, instance.Event{Kind: instance.Answered, Question: q, Answer: answer, At: in.now()})
	})
}

// question makes one connection. A quiet one asks for encryption and closes: the server's
// postmaster answers as long as it is there, and logs nothing. Else it begins a session, which the
// server refuses with its reason, before it looks at the user: a line of its log.
func question(ctx context.Context, network netio.Network, to netip.AddrPort, quiet bool) heartbeat.StopAnswer {
	c, err := network.Dial(ctx, netip.Addr{}, to)
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
