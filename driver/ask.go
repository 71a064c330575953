package driver

// The conversation with a conmgr (docs/protocol.md, part 2): startup, SHOW TARGET. Runs in the
// caller's goroutine, and blocks on the network until its context ends.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// Target is an instance that conmgr named, or a server of the connection string (Instance -1).
type Target struct {
	Instance   int
	Host       string // name as configured: for certificates and passwords
	HostAddr   string // address to connect to
	Port       int
	Attributes string // for example "primary,read-write"
	Client     string // by which the server knows whose its sessions are; empty: it does not. See Options

	resume string // what to be bound by again, when conmgr was away
}

// Address is what to connect to.
func (t Target) Address() string { return net.JoinHostPort(t.HostAddr, strconv.Itoa(t.Port)) }

// Direct is true for a server of the connection string, false for an instance that a conmgr named.
func (t Target) Direct() bool { return t.Instance < 0 }

// Options are an application's own, in the form of libpq's parameter "options", or PGOPTIONS, with
// what says whose the session is before them. So whatever is there, such as a backslash at the end,
// has no part in that.
func (t Target) Options(own string) string {
	if t.Client == "" {
		return own
	}
	return strings.TrimSuffix("-c "+cm.LabelSetting+"="+t.Client+" "+own, " ")
}

// Asker asks one conmgr. The zero value of each field but Address is usable.
type Asker struct {
	Address         string // host:port; or the path of a Unix-domain socket, which begins with a slash
	ApplicationName string
	User, Database  string // conmgr takes any; a server that is asked by mistake logs them
	// SSLMode is the application's. One that verifies the server demands a conmgr whose user is
	// known: it is conmgr that names the server.
	SSLMode string
	// RequirePeer is the user who must own the other end of a Unix-domain socket; empty: those who
	// are trusted.
	RequirePeer string
	// LoopbackOnly: ask only on a loopback address. A conmgr elsewhere is not authenticated, and
	// could name a server of its own choice: for applications that demand TLS of their server.
	LoopbackOnly bool
	// Wait is for how long conmgr may wait until an instance has the attribute, if it knows how to: 0
	// is what its own target_wait says, and less is not at all. It ends with the context.
	Wait time.Duration
}

// Ask asks the conmgr at address for an instance with the attribute, except the ones given. The
// Watch must be closed.
//
// It returns [ErrNotConmgr] if the peer is a server, and a [*TrustError] if it calls itself a
// conmgr and belongs to a user who is not trusted. Nothing secret has been sent to it.
func Ask(ctx context.Context, address string, attribute Attribute, except ...int) (*Target, *Watch, error) {
	return (&Asker{Address: address}).Ask(ctx, attribute, except...)
}

// Ask is as the function [Ask].
func (a *Asker) Ask(ctx context.Context, attribute Attribute, except ...int) (*Target, *Watch, error) {
	if !slices.Contains(cm.Attributes, attribute) {
		return nil, nil, badAttribute(string(attribute))
	}
	q := &question{attribute: attribute, except: except}
	if a.Wait != 0 {
		q.wait = func(time.Duration) time.Duration { return max(0, a.Wait) }
	}
	return a.ask(ctx, q)
}

func (a *Asker) ask(ctx context.Context, q *question) (*Target, *Watch, error) {
	p, err := a.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	target, err := p.put(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	return target, newWatch(a, p, q.attribute, target), nil
}

// open connects to a conmgr, up to the end of the startup.
func (a *Asker) open(ctx context.Context) (*peer, error) {
	dialer := net.Dialer{}
	if a.LoopbackOnly {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			if host, _, err := net.SplitHostPort(address); err != nil || !net.ParseIP(host).IsLoopback() {
				return ErrNotConmgr
			}
			return nil
		}
	}
	network := "tcp"
	if isSocketPath(a.Address) {
		network, dialer.Control = "unix", nil
	}
	nc, err := dialer.DialContext(ctx, network, a.Address)
	if err != nil {
		if errors.Is(err, ErrNotConmgr) {
			return nil, ErrNotConmgr
		}
		return nil, fmt.Errorf("could not get server address from Connection Manager: %w", err)
	}
	p := &peer{conn: nc, Frontend: pgwire.NewFrontend(nc, nc, maxMessage, 0)}
	err = p.during(ctx, func() error {
		parameters := map[string]string{"user": a.User, "application_name": a.ApplicationName}
		if parameters["user"] == "" {
			parameters["user"] = osUser()
		}
		if a.Database != "" {
			parameters["database"] = a.Database
		}
		if err := p.Startup(parameters); err != nil {
			return err
		}
		return p.recognise(a)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// during runs a part of the conversation, which ends with the context. An error closes the
// connection.
func (p *peer) during(ctx context.Context, talk func() error) error {
	// A deadline in the past ends the read or write that the context's end finds under way.
	stop := context.AfterFunc(ctx, func() { p.conn.SetDeadline(time.Unix(1, 0)) })
	err := talk()
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	p.conn.Close()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var answer *ConmgrError
	var doubt *TrustError
	if errors.Is(err, ErrNotConmgr) || errors.As(err, &answer) || errors.As(err, &doubt) {
		return err
	}
	return fmt.Errorf("could not receive server address from Connection Manager: %w", err)
}

// question is a SHOW TARGET.
type question struct {
	attribute Attribute
	except    []int
	wait      func(announced time.Duration) time.Duration // nil: as conmgr does of its own accord
	resume    string                                      // asks for the very instance that it tells
}

// put asks, with what the conmgr has announced to know.
func (p *peer) put(ctx context.Context, q *question) (target *Target, err error) {
	statement := "SHOW TARGET " + string(q.attribute)
	for i, instance := range q.except {
		statement += [...]string{" EXCEPT ", ", "}[min(i, 1)] + strconv.Itoa(instance)
	}
	if q.wait != nil && p.features[cm.FeatureWait] {
		wait := q.wait(p.targetWait)
		if end, ends := ctx.Deadline(); ends {
			wait = min(wait, time.Until(end))
		}
		statement += fmt.Sprintf(" WAIT '%dms'", max(0, wait.Milliseconds()))
	}
	if p.features[cm.FeatureNotify] {
		statement += " NOTIFY"
	}
	if q.resume != "" {
		statement += " RESUME '" + q.resume + "'"
	}
	err = p.during(ctx, func() error {
		if err := p.Query(statement); err != nil {
			return err
		}
		target, err = p.target()
		return err
	})
	return target, err
}

// osUser is the drivers' default, too.
func osUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "application"
}

// isSocketPath: a Unix-domain socket, and not host:port.
func isSocketPath(address string) bool { return address != "" && address[0] == '/' }

// peer is a conversation with whoever has answered.
type peer struct {
	conn  net.Conn
	owner owner // once it has said something
	*pgwire.Frontend

	// announced at the startup
	features   map[string]bool
	targetWait time.Duration
	grace      time.Duration // for which it may be away
}

const maxMessage = 64 * 1024 // no message of a conmgr to a driver comes near

var errClosed = errors.New("the connection was closed without a word (is conmgr's max_connections reached?)")

func (p *peer) receive() (kind byte, body []byte, err error) {
	if kind, body, err = p.Receive(); err == io.EOF {
		err = errClosed
	}
	return kind, body, err
}

// recognise reads the startup to its ReadyForQuery: a conmgr announces conmgr.version. Whoever asks
// for a password, or complains of the user or the database, is none: the real driver gets the same
// answer, and tells it in its own words. Whose process it is can be told as soon as it has said
// something, and must be before it is believed.
func (p *peer) recognise(a *Asker) error {
	recognised := false
	for first := true; ; first = false {
		kind, body, err := p.receive()
		if first && errors.Is(err, syscall.ECONNRESET) { // its close came before our startup was read
			err = errClosed
		}
		if err != nil {
			return err
		}
		if first {
			p.owner = ownerOf(p.conn)
		}
		switch kind {
		case 'R': // Authentication...
			if !pgwire.AuthenticationOk(body) {
				return ErrNotConmgr
			}
		case 'S': // ParameterStatus
			name, value, err := pgwire.ParameterStatus(body)
			if err != nil {
				continue
			}
			if name == cm.VersionParameter && !recognised {
				if err := a.believed(p.owner); err != nil {
					return err
				}
				recognised = true
			}
			p.announced(name, value)
		case 'E':
			// Who starts up or shuts down, or is full, is not worth a second try. It may be a
			// conmgr that is about to be replaced by another one: a driver that connected to that
			// one directly would take it for a database.
			if m, err := pgwire.ParseError(body); err == nil && (recognised || Elsewhere(m.Code)) {
				return conmgrError(m)
			}
			return ErrNotConmgr
		case 'K', 'Z': // BackendKeyData, ReadyForQuery
			if !recognised {
				p.Terminate()
				return ErrNotConmgr
			}
			if kind == 'Z' {
				return nil
			}
		}
	}
}

// announced notes what conmgr says of itself. 1.0 says none of it.
func (p *peer) announced(name, value string) {
	switch name {
	case cm.FeaturesParameter:
		p.features = map[string]bool{}
		for _, word := range strings.Split(value, ",") {
			p.features[strings.Trim(word, " ")] = true
		}
	case cm.TargetWaitParameter:
		p.targetWait, _ = milliseconds(value)
	case cm.GraceParameter:
		p.grace, _ = milliseconds(value)
	}
}

// milliseconds is how conmgr tells a time.
func milliseconds(value string) (time.Duration, error) {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return 0, err
	}
	return time.Duration(n) * time.Millisecond, nil
}

func conmgrError(m pgwire.Error) *ConmgrError {
	return &ConmgrError{SQLState: m.Code, Message: m.Message, Detail: m.Detail, Hint: m.Hint}
}

// target reads the answer to SHOW TARGET: one row, by the names of its columns. Their order, and
// columns that are not known, do not matter.
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
			if columns != nil {
				return nil, errors.New("the answer to SHOW TARGET has more than one description of its row")
			}
			if columns, err = pgwire.ParseColumns(body); err != nil {
				return nil, err
			}
		case 'D':
			values, err := pgwire.ParseRow(body)
			if err != nil {
				return nil, err
			}
			if target != nil {
				return nil, errors.New("the answer to SHOW TARGET has more than one row")
			}
			if target, err = rowTarget(columns, values); err != nil {
				return nil, err
			}
		case 'E':
			m, err := pgwire.ParseError(body)
			if err != nil {
				return nil, err
			}
			if m.Severity == "FATAL" {
				return nil, conmgrError(m)
			}
			failed = conmgrError(m)
		case 'Z':
			if failed == nil && target == nil {
				failed = errors.New("the answer to SHOW TARGET has no row")
			}
			if failed != nil {
				return nil, failed
			}
			return target, nil
		}
	}
}

func rowTarget(columns []string, values []*string) (*Target, error) {
	if len(columns) != len(values) {
		return nil, fmt.Errorf("the answer to SHOW TARGET has %d columns and %d values", len(columns), len(values))
	}
	row := map[string]string{}
	for i, name := range columns {
		if _, twice := row[name]; twice {
			return nil, fmt.Errorf("the answer to SHOW TARGET has the column %q twice", name)
		}
		if values[i] != nil {
			row[name] = *values[i]
		}
	}
	t := &Target{Host: row[cm.ColHost], HostAddr: row[cm.ColHostAddr], Attributes: row[cm.ColAttributes],
		Client: row[cm.ColClient], resume: row[cm.ColResume]}
	var ok bool
	if t.Instance, ok = number(row[cm.ColInstance], 0, 1<<31-1); !ok {
		return nil, fmt.Errorf("the answer's instance %q is not a number", row[cm.ColInstance])
	}
	if t.Port, ok = number(row[cm.ColPort], 1, 65535); !ok {
		return nil, fmt.Errorf("the answer's port %q is not a port number", row[cm.ColPort])
	}
	if err := t.sound(); err != nil {
		return nil, err
	}
	return t, nil
}

// number takes digits alone.
func number(s string, least, most int) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil && int(n) >= least && int(n) <= most
}
