package control

// Questions to conmgr over its port (docs/protocol.md, part 2). Blocks until the answer, for at most the given time.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgproto3/v2"
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

// addressesOf lists where to reach a conmgr that listens on the configured addresses: loopback first, it needs no network.
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
	deadline := time.Now().Add(limit)
	conn, err := dial(ctx, info, deadline)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return converse(conn, statements)
}

func dial(ctx context.Context, info Info, deadline time.Time) (net.Conn, error) {
	// The Unix socket first: conmgr keeps places there for its own user and root. It may be elsewhere, or be that of an older conmgr's crash.
	socket := filepath.Join(info.Dir, fmt.Sprintf(".s.PGSQL.%d", info.Port))
	if conn, err := (&net.Dialer{Deadline: deadline}).DialContext(ctx, "unix", socket); err == nil {
		return conn, nil
	}
	var errs []error
	addresses := addressesOf(info.ListenAddresses)
	for i, a := range addresses {
		// One address that drops packets leaves time for the others.
		share := time.Until(deadline) / time.Duration(len(addresses)-i)
		conn, err := (&net.Dialer{Deadline: time.Now().Add(share)}).DialContext(ctx, "tcp", net.JoinHostPort(a, strconv.Itoa(info.Port)))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// converse is the frontend of a session.
func converse(conn net.Conn, statements []string) (answers []rows, err error) {
	defer func() {
		if recover() != nil { // pgproto3 trusts lengths inside a message
			answers, err = nil, errors.New("invalid message received")
		}
	}()
	frontend := pgproto3.NewFrontend(&boundedReader{next: pgproto3.NewChunkReader(conn), left: maxAnswer}, conn)
	err = frontend.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber,
		Parameters: map[string]string{"user": "cm_ctl", "database": "conmgr", "application_name": "cm_ctl"}})
	if err != nil {
		return nil, err
	}
	isConmgr := false
	_, err = receive(frontend, &isConmgr)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil, errors.New("it closed the connection without a word (max_connections may be reached)")
	}
	if err != nil {
		return nil, err
	}
	if !isConmgr {
		return nil, errors.New("whoever answers is not a Connection Manager")
	}
	for _, s := range statements {
		if err := frontend.Send(&pgproto3.Query{String: s}); err != nil {
			return nil, err
		}
		answer, err := receive(frontend, &isConmgr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		answers = append(answers, answer)
	}
	_ = frontend.Send(&pgproto3.Terminate{})
	return answers, nil
}

// receive takes in messages up to ReadyForQuery.
func receive(frontend *pgproto3.Frontend, isConmgr *bool) (rows, error) {
	var answer rows
	for {
		message, err := frontend.Receive()
		if err != nil {
			return rows{}, err
		}
		switch m := message.(type) {
		case *pgproto3.ParameterStatus:
			*isConmgr = *isConmgr || m.Name == "conmgr.version"
		case *pgproto3.RowDescription:
			for _, f := range m.Fields {
				answer.columns = append(answer.columns, string(f.Name))
			}
		case *pgproto3.DataRow:
			row := make([]*string, len(answer.columns))
			for i := range min(len(row), len(m.Values)) {
				if m.Values[i] != nil {
					s := string(m.Values[i])
					row[i] = &s
				}
			}
			answer.values = append(answer.values, row)
		case *pgproto3.ErrorResponse:
			return rows{}, fmt.Errorf("%s: %s", m.Severity, printable(m.Message))
		case *pgproto3.AuthenticationOk, *pgproto3.BackendKeyData, *pgproto3.NoticeResponse, *pgproto3.CommandComplete:
		case *pgproto3.ReadyForQuery:
			return answer, nil
		default:
			return rows{}, fmt.Errorf("unexpected message %T", m)
		}
	}
}

// boundedReader refuses what no conmgr sends, before memory is taken for it.
type boundedReader struct {
	next pgproto3.ChunkReader
	left int
}

func (b *boundedReader) Next(n int) ([]byte, error) {
	if n > maxMessage || n > b.left {
		return nil, fmt.Errorf("message of %d bytes received, which is too long", n)
	}
	b.left -= n
	return b.next.Next(n)
}
