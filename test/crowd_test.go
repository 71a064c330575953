package test

// Very many client hosts that die together, while sessions of theirs are starting.

import (
	"crypto/md5"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// from dials from one of the addresses of a host.
func (w *world) from(host *testnet.Host, addr netip.Addr, port int) net.Conn {
	w.Helper()
	var conn net.Conn
	err := host.Do(func() (err error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)), KeepAlive: -1}
		conn, err = d.Dial("tcp", netip.AddrPortFrom(w.db.Addr4, uint16(port)).String())
		return err
	})
	if err != nil {
		w.Fatalf("%v", err)
	}
	w.Cleanup(func() { conn.Close() })
	return conn
}

// beats is a conmgr that does nothing but to say HELLO and send BEATs; it ends with the test.
func (w *world) beats(host *testnet.Host, addr netip.Addr, interval, timeout time.Duration, end *sync.WaitGroup, stop <-chan struct{}) {
	w.Helper()
	a := addr.As16()
	conn := w.from(host, addr, w.primary.WatchdogPort)
	h := heartbeat.Hello{MinVersion: 1, MaxVersion: 1, ID: heartbeat.ID(a), Boot: heartbeat.ID(a), Interval: interval, Timeout: timeout}
	if _, err := conn.Write(h.Append(nil)); err != nil {
		w.Fatalf("%v", err)
	}
	end.Go(func() {
		every := time.NewTicker(interval)
		defer every.Stop()
		for n := uint32(1); ; n++ {
			select {
			case <-stop:
				return
			case <-every.C:
				_, _ = conn.Write(heartbeat.ConmgrBeat{Sequence: n}.Append(nil, 1)) // of a dead host nothing arrives
			}
		}
	})
}

// begins sends a startup packet from an address, and the password if one is asked for.
func (w *world) begins(host *testnet.Host, addr netip.Addr, params map[string]string) {
	w.Helper()
	conn := w.from(host, addr, w.primary.Port)
	m := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber,
		Parameters: map[string]string{"user": "postgres", "database": "postgres"}}
	for k, v := range params {
		m.Parameters[k] = v
	}
	f := pgproto3.NewFrontend(pgproto3.NewChunkReader(conn), conn)
	if err := f.Send(m); err != nil {
		w.Fatalf("%v", err)
	}
	if params["user"] == "" {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if answer, err := f.Receive(); err != nil {
		w.Fatalf("a password is to be asked for: %v", err)
	} else if _, ok := answer.(*pgproto3.AuthenticationCleartextPassword); !ok {
		w.Fatalf("a password is to be asked for, not %#v", answer)
	}
	if err := f.Send(&pgproto3.PasswordMessage{Password: "secret"}); err != nil {
		w.Fatalf("%v", err)
	}
}

const radiusSecret = "shared"

// radius accepts everybody (RFC 2865), when it is told to.
func (w *world) radius(host *testnet.Host) (asked func() int, answer func()) {
	w.Helper()
	var conn net.PacketConn
	if err := host.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", host.Addr4.String()+":1812")
		return err
	}); err != nil {
		w.Fatalf("%v", err)
	}
	type request struct {
		from   net.Addr
		packet []byte
	}
	var mu sync.Mutex
	var all []request
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		for buf := make([]byte, 4096); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, request{from, append([]byte(nil), buf[:n]...)})
			mu.Unlock()
		}
	}()
	w.Cleanup(func() {
		conn.Close()
		<-reading
	})
	asked = func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(all)
	}
	answer = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range all {
			accept := []byte{2, r.packet[1], 0, 20}
			sum := md5.Sum(append(append(append([]byte(nil), accept...), r.packet[4:20]...), radiusSecret...))
			_, _ = conn.WriteTo(append(accept, sum[:]...), r.from)
		}
	}
	return asked, answer
}

// TestCrowdDies: 200 client hosts die in one moment, each with a session in post_auth_delay, one in a
// lock on its database, and one whose authentication has not come to its end, as the server that is
// asked takes its time; that one begins after the verdict. The terminator is ended 50 ms after the
// first verdict. No session stays, and nobody else's ends.
func TestCrowdDies(t *testing.T) {
	const hosts = 200
	const interval, timeout = 500 * time.Millisecond, 1500 * time.Millisecond
	nets := testnet.New(t)
	db, crowd, other, accounts := nets.Host("db"), nets.Host("crowd"), nets.Host("other"), nets.Host("accounts")
	w := &world{T: t, net: nets, db: db}
	w.primary = pgtest.New(t, pgtest.Host(db), pgtest.Watchdog(), pgtest.Set("max_connections", fmt.Sprint(3*hosts+50)),
		pgtest.HBA("local all all trust", fmt.Sprintf(`host all slow all radius radiusservers="%s" radiussecrets="%s"`,
			accounts.Addr4, radiusSecret), "host all all all trust"))
	w.admin = w.primary.Admin()
	t.Cleanup(func() { w.admin.Close() })
	w.primary.Exec("CREATE EXTENSION watchdog")
	w.primary.Exec("CREATE ROLE slow LOGIN")
	w.primary.Exec("CREATE DATABASE locked")
	holder := w.session(other, "BEGIN", "ALTER DATABASE locked RENAME TO renamed")
	w.conmgr(other, "500ms", "1500ms")
	asked, answer := w.radius(accounts)
	stop := make(chan struct{})
	var end sync.WaitGroup
	t.Cleanup(func() { close(stop); end.Wait() })
	for i := range hosts {
		w.net.Assign(testnet.Floating(byte(1+i)), crowd)
		w.beats(crowd, testnet.Floating(byte(1+i)), interval, timeout, &end, stop)
	}
	w.waitView(hosts + 1)
	for i := range hosts {
		addr := testnet.Floating(byte(1 + i))
		w.begins(crowd, addr, map[string]string{"options": "-c post_auth_delay=60"})
		w.begins(crowd, addr, map[string]string{"database": "locked"})
	}
	eventually(t, "all have a row", func() (bool, string) {
		n := w.primary.Value("SELECT count(*) FROM pgx_stat_watchdog_sessions WHERE client_addr << '10.77.255.0/24'")
		return n == fmt.Sprint(2*hosts), n
	})
	for i := range hosts { // last, as the server waits three seconds for an answer
		w.begins(crowd, testnet.Floating(byte(1+i)), map[string]string{"user": "slow"})
	}
	eventually(t, "all are asked for", func() (bool, string) { return asked() >= hosts, fmt.Sprint(asked()) })
	stalls := testkit.WatchStalls()
	since := w.primary.LogSize()
	terminator := w.primary.Worker(terminatorTitle)
	cut := w.net.Isolate(crowd)
	w.primary.WaitLog(since, `heartbeat is timed out: `, patience)
	<-time.After(50 * time.Millisecond) // a part of the fault
	_ = syscall.Kill(terminator, syscall.SIGTERM)
	eventually(t, "all are dead", func() (bool, string) {
		n := w.primary.Value("SELECT count(*) FROM pgx_stat_watchdog")
		return n == "1", n
	})
	answer()
	eventually(t, "no session of theirs is there", func() (bool, string) {
		n := 0
		for _, p := range w.primary.Processes() {
			if strings.Contains(p.Title, "10.77.255.") {
				n++
			}
		}
		return n == 0, fmt.Sprint(n)
	})
	took := testnet.Monotonic() - cut.Applied.Before.Mono
	log := w.primary.Log()[since:]
	late := strings.Count(log, "It was opened before the end of its client host")
	t.Logf("all of %d sessions ended %v after the cut (stalls of %v); %d ended themselves", 3*hosts, took, stalls.Longest(), late)
	if late == 0 {
		t.Error("none was authenticated after the verdict")
	}
	w.alive(holder, "the session of another host")
	w.alive(w.session(other), "a new session of another host")
	cut.Heal()
}
