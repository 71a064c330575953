package driver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const patience = 20 * time.Second // far beyond what anything here takes

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func newConmgr(t *testing.T, instances ...scripted.Instance) *scripted.Conmgr {
	t.Helper()
	s, err := scripted.New(instances...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// peer serves each connection by f, one after the other, and returns its address.
func peer(t *testing.T, f func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			nc.SetDeadline(time.Now().Add(patience))
			f(nc)
			nc.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// afterStartup reads the StartupMessage, answers, and returns what the client sends then until it
// closes.
func afterStartup(nc net.Conn, answer ...pgproto3.BackendMessage) []byte {
	if _, err := pgproto3.NewBackend(pgproto3.NewChunkReader(nc), nc).ReceiveStartupMessage(); err != nil {
		return []byte(err.Error())
	}
	var b []byte
	for _, m := range answer {
		b, _ = m.Encode(b)
	}
	nc.Write(b)
	rest, _ := io.ReadAll(nc)
	return rest
}

// told is what an application sees of a target.
func told(t *driver.Target) driver.Target {
	return driver.Target{Instance: t.Instance, Host: t.Host, HostAddr: t.HostAddr, Port: t.Port,
		Attributes: t.Attributes, Client: t.Client}
}

func TestAsk(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t,
		scripted.Instance{Number: 2, Host: "db2", HostAddr: "10.0.0.2", Port: 5432, Attributes: scripted.Primary},
		scripted.Instance{Number: 5, Host: "fe80::5%lo", HostAddr: "fe80::5%lo", Port: 5433,
			Attributes: scripted.Standby})
	target, watch, err := driver.Ask(within(t), s.Addr(), driver.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	if told(target) != (driver.Target{Instance: 2, Host: "db2", HostAddr: "10.0.0.2", Port: 5432,
		Attributes: "primary,read-write"}) || target.Direct() {
		t.Errorf("got %+v", target)
	}
	target, other, err := driver.Ask(within(t), s.Addr(), driver.Any, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if told(target) != (driver.Target{Instance: 5, Host: "fe80::5%lo", HostAddr: "fe80::5%lo", Port: 5433,
		Attributes: "standby,read-only"}) {
		t.Errorf("got %+v", target)
	}
	if q := s.Asked(); q[1] != "SHOW TARGET any EXCEPT 2, 3" {
		t.Errorf("asked %q", q)
	}
	_, _, err = driver.Ask(within(t), s.Addr(), driver.Any, 2, 5)
	var answer *driver.ConmgrError
	if !errors.As(err, &answer) || !answer.NoTarget() || answer.Detail == "" {
		t.Errorf("got %v", err)
	}
	if s.Bound(2) != 1 || s.Bound(5) != 1 {
		t.Errorf("conmgr has %d and %d bound connections", s.Bound(2), s.Bound(5))
	}
}

// Servers are recognised whatever their first word is, and get to see nothing but the startup
// packet, and a farewell.
func TestAskServer(t *testing.T) {
	leak.Check(t)
	for name, answer := range map[string][]pgproto3.BackendMessage{
		"password":    {&pgproto3.AuthenticationCleartextPassword{}},
		"MD5":         {&pgproto3.AuthenticationMD5Password{}},
		"SCRAM":       {&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}},
		"pg_hba.conf": {&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "no pg_hba.conf entry"}},
		"trust": {&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: "15"},
			&pgproto3.BackendKeyData{}},
		"no key, even": {&pgproto3.AuthenticationOk{}, &pgproto3.ReadyForQuery{TxStatus: 'I'}},
	} {
		sent := make(chan []byte, 1)
		address := peer(t, func(nc net.Conn) { sent <- afterStartup(nc, answer...) })
		if _, _, err := driver.Ask(within(t), address, driver.Any); !errors.Is(err, driver.ErrNotConmgr) {
			t.Errorf("%s: got %v", name, err)
		}
		if got := string(<-sent); got != "" && got != "X\x00\x00\x00\x04" {
			t.Errorf("%s: the client went on with %q", name, got)
		}
	}
}

// Whatever else answers is an error, in time and without large allocations.
func TestAskStrangers(t *testing.T) {
	leak.Check(t)
	recognised := []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "conmgr.version", Value: "1"}, &pgproto3.ReadyForQuery{TxStatus: 'I'}}
	row := func(values ...string) []pgproto3.BackendMessage {
		fields := []pgproto3.FieldDescription{}
		cells := [][]byte{}
		for i, v := range values {
			fields = append(fields, pgproto3.FieldDescription{Name: []byte([]string{"instance", "host", "hostaddr",
				"port"}[i])})
			cells = append(cells, []byte(v))
		}
		return []pgproto3.BackendMessage{&pgproto3.RowDescription{Fields: fields}, &pgproto3.DataRow{Values: cells},
			&pgproto3.ReadyForQuery{TxStatus: 'I'}}
	}
	raw := func(b ...byte) func(net.Conn) {
		return func(nc net.Conn) {
			nc.Write(b)
			io.Copy(io.Discard, nc)
		}
	}
	say := func(then ...pgproto3.BackendMessage) func(net.Conn) {
		return func(nc net.Conn) { afterStartup(nc, append(recognised, then...)...) }
	}
	huge := binary.BigEndian.AppendUint32([]byte{'S'}, 1<<31)
	for name, test := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"closes": {func(net.Conn) {}, "could not receive server address from Connection Manager"},
		"shuts down": {func(nc net.Conn) {
			afterStartup(nc, &pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03",
				Message: "the Connection Manager is shutting down"})
		}, "the Connection Manager is shutting down (SQLSTATE 57P03)"},
		"HTTP": {raw([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")...),
			"does not speak PostgreSQL's protocol"},
		"huge message": {raw(huge...), "does not speak PostgreSQL's protocol"},
		"short length": {raw('S', 0, 0, 0, 3), "does not speak PostgreSQL's protocol"},
		"two rows": {say(append(row("1", "h", "10.0.0.1", "1")[:2], row("2", "h", "10.0.0.2", "1")[1:]...)...),
			"more than one row"},
		"no row":           {say(&pgproto3.ReadyForQuery{TxStatus: 'I'}), "no row"},
		"invalid instance": {say(row("x", "h", "10.0.0.1", "1")...), `instance "x" is not a number`},
		"invalid hostaddr": {say(row("1", "h", "elsewhere", "1")...), `hostaddr "elsewhere" is not an IP address`},
		"invalid port":     {say(row("1", "h", "10.0.0.1", "0")...), `port "0" is not a port number`},
		"columns are short": {say(append([]pgproto3.BackendMessage{&pgproto3.RowDescription{}}, row("1")[1:]...)...),
			"0 columns and 1 values"},
		"negative length": {raw(append(encode(append(recognised, &pgproto3.RowDescription{})...), 'D', 0, 0, 0, 10, 0,
			1, 0xff, 0xff, 0xff, 0)...), "malformed DataRow"},
		"cut row": {raw(append(encode(recognised...), 'D', 0, 0, 0, 10, 0, 1, 0, 0, 0, 9)...),
			"malformed DataRow"},
	} {
		_, _, err := driver.Ask(within(t), peer(t, test.serve), driver.Any)
		if err == nil || errors.Is(err, driver.ErrNotConmgr) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func encode(messages ...pgproto3.BackendMessage) (b []byte) {
	for _, m := range messages {
		b, _ = m.Encode(b)
	}
	return b
}

func TestAskEndsWithItsContext(t *testing.T) {
	leak.Check(t)
	s := newConmgr(t)
	s.Freeze(true)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		testkit.Poll(patience, func() (bool, string) { return s.Connections() == 1, "" })
		cancel()
	}()
	if _, _, err := driver.Ask(ctx, s.Addr(), driver.Any); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
