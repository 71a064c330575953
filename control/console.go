package control

// Questions to conmgr over its port (docs/protocol.md, part 2). Blocks until the answer, for at
// most the given time.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// Whatever answers on the port, it costs no more memory than this.
const (
	maxMessage = 1 << 20
	maxAnswer  = 64 << 20
)

// rows is the answer to a statement; nil is NULL.
type rows struct {
	columns []string
	values  [][]*string
}

// addressesOf lists where to reach a conmgr that listens on the configured addresses: loopback
// first, it needs no network.
func addressesOf(listen string) []string {
	var loopback, others []string
	for _, a := range strings.Split(listen, ",") {
		switch a = strings.TrimSpace(a); a {
		case "", "*", "localhost":
			loopback = append(loopback, "127.0.0.1", "::1")
		case "0.0.0.0":
			loopback = append(loopback, "127.0.0.1")
		case "::":
			loopback = append(loopback, "::1", "127.0.0.1")
		default:
			if ip := net.ParseIP(a); ip != nil && ip.IsLoopback() {
				loopback = append(loopback, a)
			} else {
				others = append(others, a)
			}
		}
	}
	var all []string
	for _, a := range append(loopback, others...) {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// ask puts the statements to the conmgr process on one connection.
func ask(ctx context.Context, info Info, limit time.Duration, statements ...string) ([]rows, error) {
	_, answers, err := askConsole(ctx, info, limit, statements...)
	return answers, err
}

// greeting is what conmgr says of itself at the beginning, by the names of its parameters.
type greeting map[string]string

// showWaiting is asked of those only who know it: 1.0 does not.
const showWaiting = "SHOW WAITING"

func (g greeting) knows(statement string) bool {
	return statement != showWaiting || slices.Contains(strings.Split(g[cm.FeaturesParameter], ","), cm.FeatureWait)
}

// askConsole is ask, and returns the greeting as well.
func askConsole(ctx context.Context, info Info, limit time.Duration, statements ...string) (greeting, []rows, error) {
	deadline := time.Now().Add(limit)
	conn, err := dial(ctx, info, deadline)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, nil, err
	}
	return converse(conn, statements)
}

func dial(ctx context.Context, info Info, deadline time.Time) (net.Conn, error) {
	// The Unix socket first: conmgr keeps places there for its own user and root. It may be
	// elsewhere, or be that of an older conmgr's crash.
	socket := cm.SocketPath(info.Dir, info.Port)
	if conn, err := (&net.Dialer{Deadline: deadline}).DialContext(ctx, "unix", socket); err == nil {
		return conn, nil
	}
	var errs []error
	addresses := addressesOf(info.ListenAddresses)
	for i, a := range addresses {
		// One address that drops packets leaves time for the others.
		share := time.Until(deadline) / time.Duration(len(addresses)-i)
		conn, err := (&net.Dialer{Deadline: time.Now().Add(share)}).DialContext(ctx, "tcp",
			net.JoinHostPort(a, strconv.Itoa(info.Port)))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// converse is the frontend of a session.
func converse(conn net.Conn, statements []string) (said greeting, answers []rows, err error) {
	frontend := pgwire.NewFrontend(conn, conn, maxMessage, maxAnswer)
	err = frontend.Startup(map[string]string{"user": "cm_ctl", "database": "conmgr", "application_name": "cm_ctl"})
	if err != nil {
		return nil, nil, err
	}
	said = greeting{}
	_, err = receive(frontend, said)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil, nil, errors.New("it closed the connection without a word (max_connections may be reached)")
	}
	if err != nil {
		return nil, nil, err
	}
	if _, is := said[cm.VersionParameter]; !is {
		return nil, nil, errors.New("whoever answers is not a Connection Manager")
	}
	for _, s := range statements {
		if !said.knows(s) {
			answers = append(answers, rows{})
			continue
		}
		if err := frontend.Query(s); err != nil {
			return nil, nil, err
		}
		answer, err := receive(frontend, said)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", s, err)
		}
		answers = append(answers, answer)
	}
	_ = frontend.Terminate()
	return said, answers, nil
}

// refusal is conmgr's answer that a statement was not done.
type refusal struct{ said pgwire.Error }

func (r *refusal) Error() string { return r.said.Severity + ": " + printable(r.said.Message) }

// receive takes in messages up to ReadyForQuery.
func receive(frontend *pgwire.Frontend, said greeting) (rows, error) {
	var answer rows
	for {
		kind, body, err := frontend.Receive()
		if err != nil {
			return rows{}, err
		}
		switch kind {
		case 'S': // ParameterStatus
			name, value, err := pgwire.ParameterStatus(body)
			if err != nil {
				return rows{}, err
			}
			said[name] = value
		case 'T':
			if answer.columns, err = pgwire.ParseColumns(body); err != nil {
				return rows{}, err
			}
		case 'D':
			values, err := pgwire.ParseRow(body)
			if err != nil {
				return rows{}, err
			}
			row := make([]*string, len(answer.columns))
			copy(row, values)
			answer.values = append(answer.values, row)
		case 'E':
			m, err := pgwire.ParseError(body)
			if err != nil {
				return rows{}, err
			}
			return rows{}, &refusal{m}
		case 'R':
			if !pgwire.AuthenticationOk(body) {
				return rows{}, errors.New("it asks for a password, which a Connection Manager does not")
			}
		case 'K', 'N', 'C': // BackendKeyData, NoticeResponse, CommandComplete
		case 'Z': // ReadyForQuery
			return answer, nil
		default:
			return rows{}, fmt.Errorf("unexpected message of type %q", kind)
		}
	}
}
