package driver

// The conversation with a conmgr (docs/protocol.md, part 2): startup, SHOW TARGET. Runs in the caller's goroutine, and blocks on the
// network until its context ends.

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgproto3/v2"
)

// Target is an instance that conmgr named, or a server of the connection string (Instance -1).
type Target struct {
	Instance   int
	Host       string // name as configured: for certificates and passwords
	HostAddr   string // address to connect to
	Port       int
	Attributes string // for example "primary,read-write"
}

// Address is what to connect to.
func (t Target) Address() string { return net.JoinHostPort(t.HostAddr, strconv.Itoa(t.Port)) }

// Direct is true for a server of the connection string, false for an instance that a conmgr named.
func (t Target) Direct() bool { return t.Instance < 0 }

// Asker asks one conmgr. The zero value of each field but Address is usable.
type Asker struct {
	Address         string // host:port
	ApplicationName string
	User, Database  string // conmgr takes any; a server that is asked by mistake logs them
	// LoopbackOnly: ask only on a loopback address. A conmgr elsewhere is not authenticated, and could name a server of its own choice:
	// for applications that demand TLS of their server.
	LoopbackOnly bool
}

// Ask asks the conmgr at address for an instance with the attribute, except the ones given. The Watch must be closed.
//
// It returns [ErrNotConmgr] if the peer is a server: nothing secret has been sent to it.
func Ask(ctx context.Context, address string, attribute Attribute, except ...int) (*Target, *Watch, error) {
	return (&Asker{Address: address}).Ask(ctx, attribute, except...)
}

// Ask is as the function [Ask].
func (a *Asker) Ask(ctx context.Context, attribute Attribute, except ...int) (*Target, *Watch, error) {
	dialer := net.Dialer{}
	if a.LoopbackOnly {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			if host, _, err := net.SplitHostPort(address); err != nil || !net.ParseIP(host).IsLoopback() {
				return ErrNotConmgr
			}
			return nil
		}
	}
	nc, err := dialer.DialContext(ctx, "tcp", a.Address)
	if err != nil {
		if errors.Is(err, ErrNotConmgr) {
			return nil, nil, ErrNotConmgr
		}
		return nil, nil, fmt.Errorf("could not get server address from Connection Manager: %w", err)
	}
	// A deadline in the past ends the read or write that the context's end finds under way.
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	p := &peer{conn: nc, r: bufio.NewReaderSize(nc, 2048)}
	target, err := a.converse(p, attribute, except)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		var answer *ConmgrError
		if errors.Is(err, ErrNotConmgr) || errors.As(err, &answer) {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("could not receive server address from Connection Manager: %w", err)
	}
	return target, newWatch(p, target), nil
}

func (a *Asker) converse(p *peer, attribute Attribute, except []int) (*Target, error) {
	parameters := map[string]string{"user": a.User, "application_name": a.ApplicationName}
	if parameters["user"] == "" {
		parameters["user"] = osUser()
	}
	if a.Database != "" {
		parameters["database"] = a.Database
	}
	if err := p.send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: parameters}); err != nil {
		return nil, err
	}
	if err := p.recognise(); err != nil {
		return nil, err
	}
	query := "SHOW TARGET " + string(attribute)
	for i, instance := range except {
		query += [...]string{" EXCEPT ", ", "}[min(i, 1)] + strconv.Itoa(instance)
	}
	if err := p.send(&pgproto3.Query{String: query}); err != nil {
		return nil, err
	}
	return p.target()
}

// osUser is the drivers' default, too.
func osUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "application"
}

// peer frames messages of a peer that may not even speak PostgreSQL's protocol: nothing is allocated by an unchecked length.
type peer struct {
	conn net.Conn
	r    *bufio.Reader
}

const maxMessage = 64 * 1024 // no message of a conmgr to a driver comes near

func (p *peer) send(m pgproto3.FrontendMessage) error {
	b, err := m.Encode(nil)
	if err == nil {
		_, err = p.conn.Write(b)
	}
	return err
}

func (p *peer) receive() (kind byte, body []byte, err error) {
	var header [5]byte
	if _, err := io.ReadFull(p.r, header[:]); err != nil {
		if err == io.EOF {
			err = errors.New("the connection was closed (conmgr's max_connections?)")
		}
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(header[1:])
	if n < 4 || n > maxMessage {
		return 0, nil, fmt.Errorf("the peer does not speak PostgreSQL's protocol: a message of type %q and length %d", header[0], n)
	}
	body = make([]byte, n-4)
	if _, err := io.ReadFull(p.r, body); err != nil {
		return 0, nil, err
	}
	return header[0], body, nil
}

// recognise reads the startup to its ReadyForQuery: a conmgr announces conmgr.version. Whoever asks for a password, or complains of the user or
// the database, is none: the real driver gets the same answer, and tells it in its own words.
func (p *peer) recognise() error {
	recognised := false
	for {
		kind, body, err := p.receive()
		if err != nil {
			return err
		}
		switch kind {
		case 'R': // Authentication...
			if len(body) < 4 || binary.BigEndian.Uint32(body) != 0 {
				return ErrNotConmgr
			}
		case 'S': // ParameterStatus
			if name, _, _ := strings.Cut(string(body), "\x00"); name == "conmgr.version" {
				recognised = true
			}
		case 'E':
			// Who starts up or shuts down is not worth a second try. It may be a conmgr that is about to be replaced by another one: a
			// driver that connected to that one directly would take it for a database.
			var m pgproto3.ErrorResponse
			if err := m.Decode(body); err == nil && m.Code == cannotConnectNow {
				return &ConmgrError{SQLState: m.Code, Message: m.Message, Detail: m.Detail, Hint: m.Hint}
			}
			return ErrNotConmgr
		case 'K', 'Z': // BackendKeyData, ReadyForQuery
			if !recognised {
				p.send(&pgproto3.Terminate{})
				return ErrNotConmgr
			}
			if kind == 'Z' {
				return nil
			}
		}
	}
}

// target reads the answer to SHOW TARGET, by the names of its columns: their order, and columns that are not known, do not matter.
func (p *peer) target() (*Target, error) {
	var columns []string
	var target *Target
	var failed error
	for {
		kind, body, err := p.receive()
		if err != nil {
			return nil, err
		}
		switch kind {
		case 'T':
			var m pgproto3.RowDescription
			if err := m.Decode(body); err != nil {
				return nil, err
			}
			for _, f := range m.Fields {
				columns = append(columns, string(f.Name))
			}
		case 'D':
			values, err := rowValues(body)
			if err != nil {
				return nil, err
			}
			if target, err = rowTarget(columns, values); err != nil {
				return nil, err
			}
		case 'E':
			var m pgproto3.ErrorResponse
			if err := m.Decode(body); err != nil {
				return nil, err
			}
			e := &ConmgrError{SQLState: m.Code, Message: m.Message, Detail: m.Detail, Hint: m.Hint}
			if m.Severity == "FATAL" {
				return nil, e
			}
			failed = e
		case 'Z':
			if failed == nil && target == nil {
				failed = errors.New("the answer to SHOW TARGET has no row")
			}
			return target, failed
		}
	}
}

// rowValues decodes a DataRow; NULL is the empty string. (pgproto3's decoder panics on a negative length.)
func rowValues(body []byte) ([]string, error) {
	malformed := errors.New("the answer to SHOW TARGET has a malformed row")
	if len(body) < 2 {
		return nil, malformed
	}
	values := make([]string, 0, 5)
	count, body := int(binary.BigEndian.Uint16(body)), body[2:]
	for ; count > 0; count-- {
		if len(body) < 4 {
			return nil, malformed
		}
		n := max(0, int(int32(binary.BigEndian.Uint32(body))))
		if body = body[4:]; n > len(body) {
			return nil, malformed
		}
		values, body = append(values, string(body[:n])), body[n:]
	}
	return values, nil
}

func rowTarget(columns, values []string) (*Target, error) {
	if len(columns) != len(values) {
		return nil, fmt.Errorf("the answer to SHOW TARGET has %d columns and %d values", len(columns), len(values))
	}
	row := map[string]string{}
	for i, name := range columns {
		row[name] = values[i]
	}
	t := &Target{Host: row["host"], HostAddr: row["hostaddr"], Attributes: row["attributes"]}
	var err error
	if t.Instance, err = strconv.Atoi(row["instance"]); err != nil || t.Instance < 0 {
		return nil, fmt.Errorf("the answer to SHOW TARGET has an invalid instance %q", row["instance"])
	}
	if t.Port, err = strconv.Atoi(row["port"]); err != nil || t.Port < 1 || t.Port > 65535 {
		return nil, fmt.Errorf("the answer to SHOW TARGET has an invalid port %q", row["port"])
	}
	if _, err := netip.ParseAddr(t.HostAddr); err != nil {
		return nil, fmt.Errorf("the answer to SHOW TARGET has an invalid hostaddr %q", t.HostAddr)
	}
	if t.Host == "" {
		t.Host = t.HostAddr
	}
	return t, nil
}
