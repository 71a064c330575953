package conmgr

// Tests of the service with real clients: psql, lib/pq, and bytes of our own.

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/console"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// static starts a conmgr whose instances are what the test posts.
func static(t *testing.T, conf string, states ...hb.Attributes) *rig {
	t.Helper()
	return staticWith(t, conf, func(*rig) {}, states...)
}

func staticWith(t *testing.T, conf string, option func(*rig), states ...hb.Attributes) *rig {
	t.Helper()
	conf = "heartbeat_connect_timeout = 1h\n" + conf // the instances stay as they are posted, however slow the machine
	for i := range states {
		conf += fmt.Sprintf("backend_hostaddr%d = 127.0.0.%d\n", i, i+1)
	}
	r := newRig(t, conf, func(r *rig) {
		r.net.Dial = func(ctx context.Context, _ netip.Addr, _ netip.AddrPort) (*net.TCPConn, error) { // no real heartbeats
			r.dials.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}, option)
	eventually(t, "the instances have begun to connect", func() bool { return r.dials.Load() >= int32(len(states)) })
	for i, a := range states {
		r.d.board.Post(i, up(a), nil)
	}
	for i := range states {
		r.waitState(i, hb.Established)
	}
	return r
}

func up(a hb.Attributes) bind.Status {
	return bind.Status{State: hb.Established, Known: true, Attributes: a, SystemIdentifier: 7, PostmasterStart: 1}
}

func (r *rig) lose(i int) {
	r.d.board.Post(i, bind.Status{State: hb.Lost, Known: true, Attributes: primary, SystemIdentifier: 7, PostmasterStart: 1,
		Detail: "no heartbeat for 2003 ms"},
		&hb.Loss{Reason: hb.LossSilence, Silence: 2003 * time.Millisecond})
}

// client speaks the protocol by hand.
type client struct {
	t *testing.T
	c net.Conn
	f *pgproto3.Frontend

	token string // of the last row of SHOW TARGET, which is shown without
}

// clientOf makes a client of a connection.
func (r *rig) clientOf(c net.Conn) *client {
	c.SetDeadline(time.Now().Add(patience))
	return &client{t: r.t, c: c, f: pgproto3.NewFrontend(pgproto3.NewChunkReader(c), c)}
}

func (r *rig) dial() *client {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return r.clientOf(c)
}

func (r *rig) connect() *client {
	r.t.Helper()
	return r.dial().login()
}

// login makes the connection one of an application.
func (c *client) login() *client {
	c.t.Helper()
	c.c.Write(pgwire.StartupPacket(3<<16, "user", "x", "application_name", "test"))
	c.until("Z")
	return c
}

func (c *client) send(messages ...pgproto3.FrontendMessage) {
	var b []byte
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			c.t.Fatal(err)
		}
	}
	c.c.Write(b)
}

// until reads messages up to the one of a kind, or the end, and returns them in short: "T
// D(0,127.0.0.1) C(SHOW) Z".
func (c *client) until(kind string) string {
	c.t.Helper()
	var out []string
	for {
		m, err := c.f.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				out = append(out, err.Error())
			}
			return strings.Join(append(out, "EOF"), " ")
		}
		s := ""
		switch m := m.(type) {
		case *pgproto3.RowDescription:
			s = "T"
			for _, f := range m.Fields {
				if f.Format == 1 {
					s = "Tb"
				}
			}
		case *pgproto3.DataRow:
			if last := len(m.Values) - 1; bytes.HasPrefix(m.Values[last], []byte("r1/")) { // another one in each run
				c.token, m.Values = string(m.Values[last]), m.Values[:last]
			}
			s = "D(" + string(bytes.Join(m.Values, []byte(","))) + ")"
		case *pgproto3.CommandComplete:
			s = "C(" + string(m.CommandTag) + ")"
		case *pgproto3.ReadyForQuery:
			s = "Z"
		case *pgproto3.ErrorResponse:
			s = "E(" + m.Severity + " " + m.Code + " " + m.Message + ")"
		case *pgproto3.ParseComplete:
			s = "1"
		case *pgproto3.BindComplete:
			s = "2"
		case *pgproto3.CloseComplete:
			s = "3"
		case *pgproto3.ParameterDescription:
			s = "t"
		case *pgproto3.NoData:
			s = "n"
		case *pgproto3.EmptyQueryResponse:
			s = "I"
		case *pgproto3.PortalSuspended:
			s = "s"
		case *pgproto3.ParameterStatus:
			s = "S(" + m.Name + "=" + m.Value + ")"
		default:
			s = strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
		}
		out = append(out, s)
		if s == kind {
			return strings.Join(out, " ")
		}
	}
}

func (c *client) query(q string) string {
	c.t.Helper()
	c.send(&pgproto3.Query{String: q})
	return c.until("Z")
}

// shownVersion is the answer to SHOW VERSION.
var shownVersion = "T D(conmgr (watchdog) " + cm.Version + ") C(SHOW)"

const row0 = "D(0,127.0.0.1,127.0.0.1,27500,primary,read-write,)"

func TestSimpleProtocol(t *testing.T) {
	r := static(t, "", primary, standby)
	c := r.connect()
	for _, x := range [][2]string{
		{"SHOW TARGET read-write", "T " + row0 + " C(SHOW) Z"},
		{"show target standby;", "T D(1,127.0.0.2,127.0.0.2,27500,standby,read-only,) C(SHOW) Z"},
		{"show target any except 0", "T D(1,127.0.0.2,127.0.0.2,27500,standby,read-only,) C(SHOW) Z"},
		{"show target any except 0, 1", "E(ERROR 08001 no target server address from Connection Manager) Z"},
		{"show version; show version", shownVersion + " " + shownVersion + " Z"},
		{"show version; select 1; show version", shownVersion + ` E(ERROR 0A000 statement is not supported: "select 1") Z`},
		{"", "I Z"},
		{"-- ping", "I Z"},
		{"show target master", `E(ERROR 22023 invalid target attribute "master") Z`},
	} {
		if got := c.query(x[0]); got != x[1] {
			t.Errorf("%q:\ngot  %s\nwant %s", x[0], got, x[1])
		}
	}
	c.send(&pgproto3.Terminate{})
	if got := c.until(""); got != "EOF" {
		t.Errorf("after Terminate: %s", got)
	}
}

func TestExtendedProtocol(t *testing.T) {
	r := static(t, "", primary, standby)
	c := r.connect()
	type msgs = []pgproto3.FrontendMessage
	parse := func(name, q string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: q} }
	exec := func(n uint32) *pgproto3.Execute { return &pgproto3.Execute{MaxRows: n} }
	sync, flush := &pgproto3.Sync{}, &pgproto3.Flush{}
	for _, x := range []struct {
		in   msgs
		last string
		want string
	}{
		{msgs{parse("", "SHOW TARGET primary"), &pgproto3.Describe{ObjectType: 'S'},
			&pgproto3.Bind{ResultFormatCodes: []int16{1}}, &pgproto3.Describe{ObjectType: 'P'}, exec(0), sync},
			"Z", "1 t T 2 Tb " + row0 + " C(SHOW) Z"},
		{msgs{parse("s", "SHOW HELP"), sync}, "Z", "1 Z"},
		{msgs{parse("s", "SHOW HELP"), sync}, "Z", `E(ERROR 42P05 prepared statement "s" already exists) Z`},
		{msgs{&pgproto3.Bind{PreparedStatement: "s"}, exec(1), exec(0), exec(0), sync}, "Z", ""},
		{msgs{exec(0), parse("", "SHOW HELP"), &pgproto3.Query{String: "SHOW HELP"}, sync}, "Z",
			`E(ERROR 34000 portal "" does not exist) Z`},
		{msgs{parse("", "SELECT 1"), &pgproto3.Bind{}, exec(0), sync}, "Z",
			`E(ERROR 0A000 statement is not supported: "SELECT 1") Z`},
		{msgs{parse("", "SHOW HELP; SHOW HELP"), sync}, "Z",
			"E(ERROR 42601 cannot insert multiple commands into a prepared statement) Z"},
		{msgs{&pgproto3.Bind{PreparedStatement: "none"}, sync}, "Z",
			`E(ERROR 26000 prepared statement "none" does not exist) Z`},
		{msgs{&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{nil}}, sync}, "Z",
			`E(ERROR 08P01 bind message supplies 1 parameters, but prepared statement "s" requires 0) Z`},
		{msgs{&pgproto3.Bind{PreparedStatement: "s", ResultFormatCodes: []int16{0, 0, 0}}, sync}, "Z",
			`E(ERROR 08P01 bind message has 3 result formats but query has 2 columns) Z`},
		{msgs{&pgproto3.Bind{PreparedStatement: "s", ResultFormatCodes: []int16{2}}, sync}, "Z",
			`E(ERROR 22023 unsupported format code: 2) Z`},
		{msgs{&pgproto3.Bind{PreparedStatement: "s", DestinationPortal: "p"},
			&pgproto3.Bind{PreparedStatement: "s", DestinationPortal: "p"}, sync}, "Z",
			`2 E(ERROR 42P03 portal "p" already exists) Z`},
		{msgs{&pgproto3.Describe{ObjectType: 'P', Name: "p"}, sync}, "Z", `E(ERROR 34000 portal "p" does not exist) Z`},
		{msgs{parse("", ""), &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, exec(0), sync}, "Z", "1 2 n I Z"},
		{msgs{parse("", "SHOW VERSION"), flush}, "1", "1"},
		{msgs{&pgproto3.Close{ObjectType: 'S', Name: "s"}, &pgproto3.Close{ObjectType: 'S', Name: "s"}, sync}, "Z",
			"3 3 Z"},
	} {
		c.send(x.in...)
		got := c.until(x.last)
		if x.want == "" { // one row, the rest, and nothing more
			if strings.Count(got, " D(") != len(console.HelpRows) || !strings.HasPrefix(got, "2 D(") ||
				!strings.Contains(got, " s D(") || !strings.HasSuffix(got, " C(SHOW) C(SHOW) Z") {
				t.Errorf("portal in parts: %s", got)
			}
		} else if got != x.want {
			t.Errorf("%v:\ngot  %s\nwant %s", x.in, got, x.want)
		}
	}
	for i := 0; i < console.MaxNamed; i++ {
		c.send(parse(fmt.Sprint("many", i), "SHOW HELP"))
	}
	c.send(sync)
	if got := c.until("Z"); !strings.Contains(got, "E(ERROR 54000 too many prepared statements: at most 32) Z") {
		t.Errorf("got %s", got)
	}
	if got := c.query("show version"); got != shownVersion+" Z" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestStartupOnTheWire(t *testing.T) {
	r := static(t, "", primary)
	for _, x := range []struct {
		name string
		in   []byte
		want string
	}{
		{"version 2", pgwire.StartupPacket(2 << 16), "E(FATAL 0A000 unsupported frontend protocol 2.0: the Connection Manager supports 3.0 and 3.2) EOF"},
		{"cancel", pgwire.StartupPacket(pgwire.CancelRequestCode), "EOF"},
		{"tls", []byte{0x16, 3, 1, 0, 5}, "EOF"},
		{"garbage", []byte("GET / HTTP/1.1\r\n\r\n"), "E(FATAL 08P01 invalid length of startup packet) EOF"},
		{"unknown type", append(pgwire.StartupPacket(3<<16, "user", "x"), 'z', 0, 0, 0, 4),
			"E(FATAL 08P01 unknown message type: z) EOF"},
		{"empty query message", append(pgwire.StartupPacket(3<<16, "user", "x"), 'Q', 0, 0, 0, 4),
			"E(FATAL 08P01 invalid message format) EOF"},
		{"huge", append(pgwire.StartupPacket(3<<16, "user", "x"), 'Q', 0x7f, 0xff, 0xff, 0xff),
			"E(FATAL 54000 message of 2147483643 bytes is longer than 8192) EOF"},
		{"password", append(pgwire.StartupPacket(3<<16, "user", "x"), 'p', 0, 0, 0, 5, 0), "E(FATAL 08P01 unexpected message) EOF"},
	} {
		c := r.dial()
		c.c.Write(x.in)
		got := c.until("")
		if i := strings.Index(got, "Z "); i >= 0 {
			got = got[i+2:]
		}
		if got != x.want {
			t.Errorf("%s: got %s", x.name, got)
		}
	}
	c := r.dial()
	for _, code := range []uint32{pgwire.SSLRequestCode, pgwire.GSSEncRequestCode} {
		var b [1]byte
		c.c.Write(pgwire.StartupPacket(code))
		if _, err := io.ReadFull(c.c, b[:]); err != nil || b[0] != 'N' {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	c.c.Write(pgwire.StartupPacket(3<<16+2, "user", "x", "_pq_.feature", "1", "application_name", "me"))
	negotiate := make([]byte, 1+4+4+4+len("_pq_.feature")+1)
	if _, err := io.ReadFull(c.c, negotiate); err != nil ||
		string(negotiate) != "v\x00\x00\x00\x19\x00\x03\x00\x02\x00\x00\x00\x01_pq_.feature\x00" {
		t.Errorf("got %q, %v", negotiate, err)
	}
	if got := c.until("Z"); !strings.Contains(got, "S(conmgr.version="+cm.Version+")") ||
		!strings.Contains(got, "S(application_name=me)") ||
		!strings.Contains(got, "S(server_version=13.0 (Connection Manager "+cm.Version+"))") {
		t.Errorf("got %s", got)
	}
}

func TestLibPQ(t *testing.T) {
	r := static(t, "", primary, standby)
	host, port, _ := net.SplitHostPort(r.addr)
	connector, err := pq.NewConnector(fmt.Sprintf("host=%s port=%s user=x dbname=y sslmode=disable", host, port))
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.PingContext(ctx); err != nil {
		t.Error(err)
	}
	st, err := conn.PrepareContext(ctx, "SHOW TARGET read-write")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 2; i++ {
		var inst, name, addr, p, attrs, label, token string
		if err := st.QueryRowContext(ctx).Scan(&inst, &name, &addr, &p, &attrs, &label, &token); err != nil || inst != "0" ||
			attrs != "primary,read-write" {
			t.Errorf("got %s %s: %v", inst, attrs, err)
		}
	}
	var pe *pq.Error
	if _, err := conn.ExecContext(ctx, "INSERT INTO t VALUES (1)"); !errors.As(err, &pe) || pe.Code != "0A000" ||
		pe.Hint != console.Hint {
		t.Errorf("got %v", err)
	}
	r.lose(0)
	eventually(t, "lib/pq has the FATAL", func() bool {
		_, err := conn.ExecContext(ctx, "SHOW VERSION")
		return err != nil
	})
}

func TestPsql(t *testing.T) {
	r := static(t, "", primary, standby)
	host, port, _ := net.SplitHostPort(r.addr)
	out, err := exec.Command("psql", "-X", "-A", "-t", "-h", host, "-p", port, "-U", "x", "db", "-c",
		"show target standby", "-c", "show instances",
		"-c", `SHOW TARGET "any" EXCEPT 1;`).CombinedOutput()
	want := "1|127.0.0.2|127.0.0.2|27500|standby,read-only|\n" +
		"0|127.0.0.1|127.0.0.1|27500|27545|established|primary|off|1||0||any,read-write,primary||primary|7||0||\n" +
		"1|127.0.0.2|127.0.0.2|27500|27545|established|standby|on|1||0||read-only,standby,prefer-standby,prefer-read||standby|7||1||\n" +
		"0|127.0.0.1|127.0.0.1|27500|primary,read-write|\n"
	out = regexp.MustCompile(`(?m)\|r1/\S+$`).ReplaceAll(out, nil)
	if err != nil || string(out) != want {
		t.Errorf("%v: got\n%s", err, out)
	}
}

func TestConnectionLimit(t *testing.T) {
	for _, x := range []struct {
		limit     uint64
		instances int
		max, want int
		Relays    bool
		listeners int
	}{{1024, 2, 0, 1011, false, 3}, {1024, 2, 100, 100, false, 3}, {114, 2, 100, 100, false, 2},
		{113, 2, 100, -1, false, 3}, {13, 2, 0, -1, false, 1}, {14, 2, 0, 1, false, 0},
		{1024, 2, 0, 405, true, 3}, {414, 2, 100, 100, true, 3}, {413, 2, 100, -1, true, 3}, {214, 2, 0, 1, true, 3},
		{116, 2, 100, -1, false, 6}, {117, 2, 100, 100, false, 6}, {1024, 2, 0, 1008, false, 6}} {
		got, err := conf.ConnectionLimit(x.limit, x.instances, x.max, x.Relays, x.listeners)
		if x.want < 0 {
			var se *conf.StartError
			if !errors.As(err, &se) || !strings.Contains(se.Hint, "ulimit -n") {
				t.Errorf("%+v: got %d, %v", x, got, err)
			}
		} else if got != x.want || err != nil {
			t.Errorf("%+v: got %d, %v", x, got, err)
		}
	}
}

// What a configuration opens beyond the default takes no descriptor from heartbeats.
func TestCountListeners(t *testing.T) {
	for text, want := range map[string]int{
		"": 3, "listen_addresses = '127.0.0.1'": 2, "listen_addresses = '*'\nunix_socket_directories = ''": 2,
		"listen_addresses = '127.0.0.1, ::1, 127.0.0.2, 127.0.0.3'\nunix_socket_directories = '., /tmp'": 6,
	} {
		c, diags := conf.Parse("conmgr.conf", []byte("backend_host0 = a\n"+text))
		if c == nil {
			t.Fatal(diags)
		}
		if got := conf.CountListeners(c); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
