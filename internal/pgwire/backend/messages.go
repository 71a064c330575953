package backend

// Messages of a server, encoded, and those of a client by their names: the only place that knows
// pgproto3. Pure.

import "github.com/jackc/pgproto3/v2"

// Messages of a client.

type (
	// Message is any of them.
	Message = pgproto3.FrontendMessage
	// Query is the simple query protocol.
	Query = pgproto3.Query
	// Parse is a statement to prepare.
	Parse = pgproto3.Parse
	// Bind is a portal to make.
	Bind = pgproto3.Bind
	// Describe is a question for columns.
	Describe = pgproto3.Describe
	// Execute is a portal to run.
	Execute = pgproto3.Execute
	// Close is the end of a statement or portal.
	Close = pgproto3.Close
	// Sync is the end of a cycle.
	Sync = pgproto3.Sync
	// Flush is a request for what has gathered.
	Flush = pgproto3.Flush
	// Terminate is the client's farewell.
	Terminate = pgproto3.Terminate
	// FunctionCall is a call by the old way.
	FunctionCall = pgproto3.FunctionCall
	// CopyData is of COPY.
	CopyData = pgproto3.CopyData
	// CopyDone is of COPY.
	CopyDone = pgproto3.CopyDone
	// CopyFail is of COPY.
	CopyFail = pgproto3.CopyFail
)

// Messages of a server.

type (
	// Answer is any of them.
	Answer = pgproto3.BackendMessage
	// EmptyQueryResponse is the answer to no statement.
	EmptyQueryResponse = pgproto3.EmptyQueryResponse
	// CommandComplete is the end of a statement.
	CommandComplete = pgproto3.CommandComplete
	// ParseComplete is the answer to Parse.
	ParseComplete = pgproto3.ParseComplete
	// BindComplete is the answer to Bind.
	BindComplete = pgproto3.BindComplete
	// CloseComplete is the answer to Close.
	CloseComplete = pgproto3.CloseComplete
	// ParameterDescription is of a prepared statement.
	ParameterDescription = pgproto3.ParameterDescription
	// NoData is that there are no columns.
	NoData = pgproto3.NoData
	// PortalSuspended is that there are more rows.
	PortalSuspended = pgproto3.PortalSuspended
	// RowDescription is the columns.
	RowDescription = pgproto3.RowDescription
	// FieldDescription is one of the columns.
	FieldDescription = pgproto3.FieldDescription
	// DataRow is a row.
	DataRow = pgproto3.DataRow
	// ReadyForQuery is the end of a cycle.
	ReadyForQuery = pgproto3.ReadyForQuery
)

// Error is an error with all that the client is told of it.
type Error struct{ Code, Text, Detail, Hint string }

func (e *Error) Error() string { return e.Text }

// Put appends a message of ours. Its encoder fails on messages of more than 1 GB only.
func Put(b []byte, m Answer) []byte {
	b, err := m.Encode(b)
	if err != nil {
		panic("encoding a message: " + err.Error())
	}
	return b
}

// ErrorResponse encodes one.
func ErrorResponse(severity, code, text, detail, hint string) []byte {
	return Put(nil, &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code,
		Message: text, Detail: detail, Hint: hint})
}

// ParameterStatus encodes one.
func ParameterStatus(name, value string) []byte {
	return Put(nil, &pgproto3.ParameterStatus{Name: name, Value: value})
}

// Fatal is the last message of a session.
func Fatal(code, text, detail, hint string) []byte {
	return ErrorResponse("FATAL", code, text, detail, hint)
}
