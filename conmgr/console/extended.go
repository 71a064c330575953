package console

// The conversation after startup: simple and extended query protocol. Run by the session's
// goroutine. Answers gather in a buffer that is written at the end of a query, at Sync and Flush;
// nothing is held between queries but named statements.

import (
	"errors"
	"fmt"
	"io"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// MaxNamed bounds the prepared statements and the portals of a connection.
const MaxNamed = 32

const textOID = 25

type prepared struct{ statement }

type portal struct {
	statement
	formats []int16
	rows    [][]string
	ran     bool
	sent    int
}

type conversation struct {
	session *session
	backend *backend.Backend
	out     []byte

	failed     bool // an error: everything is ignored until Sync
	statements map[string]*prepared
	portals    map[string]*portal
}

// handle answers one message. An error ends the session.
func (c *conversation) handle(m backend.Message) error {
	switch m.(type) {
	case *backend.Terminate:
		return io.EOF
	case *backend.Sync:
		c.failed = false
		clear(c.portals)
		return c.ready()
	}
	if c.failed {
		return nil
	}
	var err error
	switch m := m.(type) {
	case *backend.Query:
		if err := c.query(m.String); err != nil {
			return err
		}
		return c.ready()
	case *backend.Flush:
		return c.flush()
	case *backend.Parse:
		err = c.parse(m)
	case *backend.Bind:
		err = c.bind(m)
	case *backend.Describe:
		err = c.describe(m)
	case *backend.Execute:
		err = c.execute(m)
	case *backend.Close:
		err = c.close(m)
	case *backend.FunctionCall:
		c.fail(&backend.Error{Code: cm.FeatureNotSupported, Text: "function calls are not supported", Hint: Hint})
		c.failed = false // a FunctionCall is its own cycle, which ends with ReadyForQuery
		return c.ready()
	case *backend.CopyData, *backend.CopyDone, *backend.CopyFail:
		return nil // left over from a failed COPY, as a server sees it
	default:
		return c.session.refuse(backend.Fatal(cm.ProtocolViolation, "unexpected message", "", ""))
	}
	if isEnd(err) {
		return err
	}
	if err != nil {
		c.fail(err)
		c.failed = true
	}
	return nil
}

// isEnd tells whether an error of a statement ends the session; others are answered.
func isEnd(err error) bool {
	var answered *backend.Error
	return err != nil && !errors.As(err, &answered)
}

// query is the simple protocol.
func (c *conversation) query(s string) error {
	clear(c.portals)
	list := parseStatements(s)
	if len(list) == 0 {
		c.put(&backend.EmptyQueryResponse{})
	}
	for i := range list {
		p := &list[i]
		err := p.err
		var rows [][]string
		if err == nil {
			rows, err = c.answer(&p.statement)
		}
		if isEnd(err) {
			return err
		}
		if err != nil {
			c.fail(err)
			return nil
		}
		if columns[p.verb] != nil {
			c.put(rowDescription(p.verb, nil))
		}
		for _, r := range rows {
			if err := c.row(r); err != nil {
				return err
			}
		}
		c.put(&backend.CommandComplete{CommandTag: []byte(p.verb.tag())})
	}
	return nil
}

// answer executes a statement. What it announces goes before the rows.
func (c *conversation) answer(st *statement) ([][]string, error) {
	rows, err := c.session.answer(st)
	c.out = append(c.out, c.session.announced...)
	c.session.announced = nil
	return rows, err
}

func (c *conversation) parse(m *backend.Parse) error {
	if m.Name != "" && c.statements[m.Name] != nil {
		return &backend.Error{Code: cm.DuplicateStatement, Text: fmt.Sprintf("prepared statement %q already exists", conf.Clip(m.Name))}
	}
	if len(m.ParameterOIDs) > 0 {
		return &backend.Error{Code: cm.FeatureNotSupported, Text: "statement parameters are not supported", Hint: Hint}
	}
	list := parseStatements(m.Query)
	p := &prepared{}
	switch {
	case len(list) > 1:
		return &backend.Error{Code: cm.SyntaxError, Text: "cannot insert multiple commands into a prepared statement"}
	case len(list) == 1:
		if list[0].err != nil {
			return list[0].err
		}
		p.statement = list[0].statement
	}
	if len(c.statements) >= MaxNamed && c.statements[m.Name] == nil {
		return &backend.Error{Code: cm.ProgramLimitExceeded, Text: fmt.Sprintf("too many prepared statements: at most %d", MaxNamed)}
	}
	if c.statements == nil {
		c.statements = map[string]*prepared{}
	}
	c.statements[m.Name] = p
	c.put(&backend.ParseComplete{})
	return nil
}

func (c *conversation) bind(m *backend.Bind) error {
	p := c.statements[m.PreparedStatement]
	if p == nil {
		return noStatement(m.PreparedStatement)
	}
	if len(m.Parameters) > 0 {
		return &backend.Error{Code: cm.ProtocolViolation, Text: fmt.Sprintf("bind message supplies %d parameters, but prepared statement %q requires 0",
			len(m.Parameters), conf.Clip(m.PreparedStatement))}
	}
	n := len(columns[p.verb])
	if k := len(m.ResultFormatCodes); k > 1 && k != n {
		return &backend.Error{Code: cm.ProtocolViolation, Text: fmt.Sprintf("bind message has %d result formats but query has %d columns", k, n)}
	}
	for _, f := range m.ResultFormatCodes {
		if f != 0 && f != 1 {
			return &backend.Error{Code: cm.InvalidParameterValue, Text: fmt.Sprintf("unsupported format code: %d", f)}
		}
	}
	if m.DestinationPortal != "" && c.portals[m.DestinationPortal] != nil {
		return &backend.Error{Code: cm.DuplicateCursor, Text: fmt.Sprintf("portal %q already exists", conf.Clip(m.DestinationPortal))}
	}
	if len(c.portals) >= MaxNamed && c.portals[m.DestinationPortal] == nil {
		return &backend.Error{Code: cm.ProgramLimitExceeded, Text: fmt.Sprintf("too many portals: at most %d", MaxNamed)}
	}
	if c.portals == nil {
		c.portals = map[string]*portal{}
	}
	c.portals[m.DestinationPortal] = &portal{statement: p.statement, formats: m.ResultFormatCodes}
	c.put(&backend.BindComplete{})
	return nil
}

func (c *conversation) describe(m *backend.Describe) error {
	var v verb
	var formats []int16
	switch m.ObjectType {
	case 'S':
		p := c.statements[m.Name]
		if p == nil {
			return noStatement(m.Name)
		}
		v = p.verb
		c.put(&backend.ParameterDescription{})
	case 'P':
		p := c.portals[m.Name]
		if p == nil {
			return noPortal(m.Name)
		}
		v, formats = p.verb, p.formats
	default:
		return &backend.Error{Code: cm.ProtocolViolation, Text: fmt.Sprintf("invalid DESCRIBE message subtype %d", m.ObjectType)}
	}
	if columns[v] == nil {
		c.put(&backend.NoData{})
	} else {
		c.put(rowDescription(v, formats))
	}
	return nil
}

func (c *conversation) execute(m *backend.Execute) error {
	p := c.portals[m.Portal]
	if p == nil {
		return noPortal(m.Portal)
	}
	if p.verb == nothing {
		c.put(&backend.EmptyQueryResponse{})
		return nil
	}
	if !p.ran {
		rows, err := c.answer(&p.statement)
		if err != nil {
			return err
		}
		p.rows, p.ran = rows, true
	}
	most := len(p.rows) - p.sent
	if m.MaxRows > 0 && m.MaxRows < uint32(most) {
		most = int(m.MaxRows)
	}
	for ; most > 0; most-- {
		if err := c.row(p.rows[p.sent]); err != nil {
			return err
		}
		p.sent++
	}
	if p.sent < len(p.rows) {
		c.put(&backend.PortalSuspended{})
	} else {
		c.put(&backend.CommandComplete{CommandTag: []byte(p.verb.tag())})
	}
	return nil
}

func (c *conversation) close(m *backend.Close) error {
	switch m.ObjectType {
	case 'S':
		delete(c.statements, m.Name)
	case 'P':
		delete(c.portals, m.Name)
	default:
		return &backend.Error{Code: cm.ProtocolViolation, Text: fmt.Sprintf("invalid CLOSE message subtype %d", m.ObjectType)}
	}
	c.put(&backend.CloseComplete{})
	return nil
}

func noStatement(name string) error {
	return &backend.Error{Code: cm.InvalidStatementName, Text: fmt.Sprintf("prepared statement %q does not exist", conf.Clip(name))}
}

func noPortal(name string) error {
	return &backend.Error{Code: cm.InvalidCursorName, Text: fmt.Sprintf("portal %q does not exist", conf.Clip(name))}
}

// rowDescription: text and binary format of the type text are the same bytes.
func rowDescription(v verb, formats []int16) *backend.RowDescription {
	d := &backend.RowDescription{}
	for i, name := range columns[v] {
		f := backend.FieldDescription{Name: []byte(name), DataTypeOID: textOID, DataTypeSize: -1, TypeModifier: -1}
		switch {
		case len(formats) == 1:
			f.Format = formats[0]
		case len(formats) > 1:
			f.Format = formats[i]
		}
		d.Fields = append(d.Fields, f)
	}
	return d
}

func (c *conversation) put(m backend.Answer) { c.out = backend.Put(c.out, m) }

// row puts a row, and writes what has gathered when it is much.
func (c *conversation) row(values []string) error {
	d := backend.DataRow{Values: make([][]byte, len(values))}
	for i, v := range values {
		if v != null {
			d.Values[i] = []byte(v)
		}
	}
	c.put(&d)
	if len(c.out) >= maxBuffered {
		return c.flush()
	}
	return nil
}

func (c *conversation) fail(err error) {
	e, ok := err.(*backend.Error)
	if !ok {
		e = &backend.Error{Code: cm.InternalError, Text: err.Error()}
	}
	c.out = append(c.out, backend.ErrorResponse("ERROR", e.Code, e.Text, e.Detail, e.Hint)...)
}

func (c *conversation) ready() error {
	c.put(&backend.ReadyForQuery{TxStatus: 'I'})
	return c.flush()
}

// flush writes what has gathered, and keeps no buffer.
func (c *conversation) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	out := c.out
	c.out = nil
	return c.session.write(out)
}
