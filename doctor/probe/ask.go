package probe

// What listens at a port: a watchdog, which is asked what its server is like, or PostgreSQL.

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/doctor"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// sqlPort is what an SSLRequest shows.
func sqlPort(to netip.AddrPort, limit time.Duration) doctor.Reach {
	conn, r := dial(to, limit)
	if conn == nil {
		return r
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	_, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47})
	var first [1]byte
	if err == nil {
		_, err = io.ReadFull(conn, first[:])
	}
	switch {
	case err != nil:
		r.Cause = silence(err)
	case first[0] == 'S', first[0] == 'N', first[0] == 'E': // E: one that is starting, or full
		r.Speaks = doctor.Postgres
	case first[0] == 0: // the length of a frame
		r.Speaks = doctor.Watchdog
	default:
		r.Cause = "it says something else"
	}
	return r
}

// silence says how somebody has not answered.
func silence(err error) string {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "it accepts the connection, and says nothing"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET):
		return "it closes the connection without a word"
	}
	return text(err)
}

// watchdogPort fills in what its watchdog tells.
func watchdogPort(p *doctor.Path, port int, c *conf.Config, limit time.Duration) {
	conn, r := dial(netip.AddrPortFrom(p.Address, uint16(port)), limit)
	p.Watchdog, p.UserTimeout = r, -1
	if conn == nil {
		return
	}
	defer conn.Close()
	tcp := conn.(*net.TCPConn)
	netio.ForHeartbeats(tcp, 2*c.HeartbeatTimeout)
	p.UserTimeout = userTimeout(tcp)
	_ = conn.SetDeadline(time.Now().Add(limit))
	err := ask(conn, c, p)
	switch {
	case p.Told != nil || p.Refused != nil:
		p.Watchdog.Speaks = doctor.Watchdog
	case err != nil:
		p.Watchdog.Cause = silence(err)
		// A PostgreSQL server closes the connection of whom it does not understand.
		if sqlPort(netip.AddrPortFrom(p.Address, uint16(port)), limit).Speaks == doctor.Postgres {
			p.Watchdog.Speaks = doctor.Postgres
		}
	}
}

func userTimeout(c *net.TCPConn) time.Duration {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1
	}
	d := time.Duration(-1)
	_ = raw.Control(func(fd uintptr) {
		if ms, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err == nil {
			d = time.Duration(ms) * time.Millisecond
		}
	})
	return d
}

// ask sends an ASK, with the proof of the key that conmgr has, and takes in the answer.
func ask(conn net.Conn, c *conf.Config, p *doctor.Path) error {
	h := heartbeat.Hello{MinVersion: heartbeat.MinVersion, MaxVersion: heartbeat.MaxVersion, Interval: c.HeartbeatInterval,
		Timeout: c.HeartbeatTimeout, Attempt: 1}
	if c.Key != nil {
		h.MinVersion, h.KeyID = heartbeat.MaxVersion, c.Key.ID
		_, _ = rand.Read(h.Nonce[:])
	}
	hello := heartbeat.AskOf(h, nil)
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	begin := time.Now()
	b, f, err := frame(conn, nil)
	if err != nil {
		return err
	}
	var shake *proof.Handshake
	if f.Type == heartbeat.TypeChallenge && c.Key != nil {
		if err := heartbeat.CheckChallenge(f.Payload); err != nil {
			return err
		}
		shake = proof.NewHandshake(c.Key, proof.TranscriptOf(hello, f.Whole))
		if _, err := conn.Write(heartbeat.AppendResponse(nil, shake.Response())); err != nil {
			return err
		}
		begin = time.Now()
		if _, f, err = frame(conn, b[len(f.Whole):]); err != nil {
			return err
		}
	}
	now := time.Now()
	switch f.Type {
	case heartbeat.TypeTell:
		payload, ok := f.Payload, true
		if shake != nil {
			payload, ok = shake.OpenWelcome(f.Whole)
		}
		if !ok {
			return errors.New("it answers without the proof of the key")
		}
		t, err := heartbeat.ParseTell(payload)
		if err != nil {
			return err
		}
		middle := begin.Add(now.Sub(begin) / 2)
		p.Told = &doctor.Told{Tell: t, Offset: time.UnixMicro(t.Wall).Sub(middle)}
	case heartbeat.TypeRefused:
		r, err := heartbeat.ParseRefused(f.Payload)
		if err != nil {
			return err
		}
		p.Refused = &r
	default:
		return errors.New("it says something else")
	}
	return nil
}

// frame reads one, and returns all that was read.
func frame(conn net.Conn, b []byte) ([]byte, heartbeat.Frame, error) {
	for {
		f, n, err := heartbeat.Next(b)
		if err != nil || n == 0 && len(b) > 0 && b[0] > 1 { // no length of a frame begins so
			return b, f, errors.New("it says something else")
		}
		if n > 0 {
			return b, f, nil
		}
		var more [512]byte
		got, err := conn.Read(more[:])
		b = append(b, more[:got]...)
		if err != nil && got == 0 {
			return b, f, err
		}
	}
}
