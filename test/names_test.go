package test

// An instance that is configured by its name, and a name service that fails when it is needed.

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// nameServer answers each question for an IPv4 or IPv6 address with one address; while it fails,
// with SERVFAIL.
type nameServer struct {
	addr, addr6 netip.Addr // addr6 may be invalid: there is none
	fails       atomic.Bool
	fails4      atomic.Bool // questions for IPv4 only
	asked       atomic.Int32
}

func (s *nameServer) serve(t *testing.T, host *testnet.Host) {
	t.Helper()
	var conn net.PacketConn
	err := host.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", fmt.Sprintf("%s:53", host.Addr4))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-ended })
	go func() {
		defer close(ended)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := s.answer(buf[:n]); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
}

// answer copies header and question (RFC 1035, 4.1), and appends the address.
func (s *nameServer) answer(q []byte) []byte {
	end := 12
	for end < len(q) && q[end] != 0 {
		end += int(q[end]) + 1
	}
	if end += 5; end > len(q) {
		return nil
	}
	s.asked.Add(1)
	out := append([]byte(nil), q[:end]...)
	out[2], out[3] = 0x81, 0x80 // an answer, recursion available
	copy(out[6:12], make([]byte, 6))
	switch {
	case s.fails.Load() || s.fails4.Load() && binary.BigEndian.Uint16(q[end-4:]) == 1:
		out[3] |= 2
	case binary.BigEndian.Uint16(q[end-4:]) == 1: // A
		out[7] = 1
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		out = append(out, s.addr.AsSlice()...)
	case binary.BigEndian.Uint16(q[end-4:]) == 28 && s.addr6.IsValid(): // AAAA
		out[7] = 1
		out = append(out, 0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 0, 0, 16)
		out = append(out, s.addr6.AsSlice()...)
	}
	return out
}

// TestNameServiceFails: the watchdog worker is restarted while no name can be resolved, or while
// the name server is silent: conmgr resumes in time by the address that it knows, and nobody is
// told or ended.
func TestNameServiceFails(t *testing.T) {
	w := newWorld(t)
	client, dns := w.net.Host("client"), w.net.Host("dns")
	service := &nameServer{addr: w.db.Addr4}
	service.serve(t, dns)
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "500ms", Timeout: "2s", NameServer: dns.Addr4.String(),
		Extra: "backend_host0 = 'pgdb.example.'\nbackend_port0 = 5432\n"})
	cm.WaitInstance(0, "state", "established")
	cm.WaitInstance(0, "hostaddr", w.db.Addr4.String())
	bound, s := cm.Bind("primary"), w.session(client, "BEGIN")
	restart := func(what string) {
		t.Helper()
		mark, since := cm.Mark(), w.primary.LogSize()
		if err := syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		cm.WaitLog(mark, "heartbeat connection is closed", patience)
		cm.WaitLog(mark, "heartbeat connection is established", patience)
		if l, ok := cm.Find(mark, "is lost|timed out: instance"); ok {
			t.Errorf("%s: conmgr: %s", what, l.Text)
		}
		w.noLog(since, "terminated connections|timed out")
		w.alive(s, what)
	}
	service.fails.Store(true)
	restart("the name service fails")
	cm.WaitLog(0, "could not resolve host name .*; the last known addresses of instance 0 .* are used", patience)
	cut := w.net.CutPort(client, dns, 53)
	restart("the name server is silent")
	cut.Heal()
	if err := bound.Wait(time.Millisecond); err != nil {
		t.Errorf("the application was told: %v", err)
	}
	service.fails.Store(false)
	asked := service.asked.Load()
	eventually(t, "look-ups go on", func() (bool, string) { return service.asked.Load() > asked, "" })
	restart("the name service is back")
}

// TestHalfOfTheNameServiceFails: a name with IPv4 and IPv6 addresses, of which only the latter can
// be resolved when the worker is restarted: conmgr resumes by IPv4, as the watchdog would take it
// for another host by IPv6.
func TestHalfOfTheNameServiceFails(t *testing.T) {
	w := newWorld(t)
	client, dns := w.net.Host("client"), w.net.Host("dns")
	service := &nameServer{addr: w.db.Addr4, addr6: w.db.Addr6}
	service.serve(t, dns)
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "500ms", Timeout: "2s", NameServer: dns.Addr4.String(),
		Extra: "backend_host0 = 'pgdb.example.'\nbackend_port0 = 5432\n"})
	cm.WaitInstance(0, "state", "established")
	cm.WaitInstance(0, "hostaddr", w.db.Addr4.String())
	bound, s, mark := cm.Bind("primary"), w.session(client, "BEGIN"), cm.Mark()
	service.fails4.Store(true)
	if err := syscall.Kill(w.primary.Worker(workerTitle), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cm.WaitLog(mark, "heartbeat connection is established", patience)
	cm.WaitLog(mark, "could not resolve host name .* completely: .*; the last known addresses", patience)
	asked := service.asked.Load()
	eventually(t, "look-ups go on", func() (bool, string) { return service.asked.Load() > asked+4, "" })
	if l, ok := cm.Find(mark, "is lost|other addresses"); ok {
		t.Errorf("conmgr: %s", l.Text)
	}
	if err := bound.Wait(time.Millisecond); err != nil {
		t.Errorf("the application was told: %v", err)
	}
	w.alive(s, "half of the name service fails")
}
