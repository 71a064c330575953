package pgxcm

// How pgconn is told that a connection is broken. Runs in pgx's goroutines, and blocks on nothing.
//
// Since 5.9 pgconn looks at the next message before it takes it, for statements without arguments
// and for batches, and drops the error of that look. If the error has made it close the connection,
// taking the message fails with "conn closed", which pgconn calls safe to retry: a statement that
// was sent, and may have taken effect, would be repeated by database/sql. But a look that timed out
// closes nothing. So the error of a broken connection says once, to whoever asks first, that it is
// a timeout; the one who takes the message then gets it from another Read, as it is.

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
)

// looks is how many Reads may be such looks: pgconn's background reader may have been at it, too.
const looks = 2

// brokenError is the error of a broken connection. Its first question for a timeout is answered
// with yes.
type brokenError struct {
	err   error
	asked atomic.Bool
}

var _ net.Error = (*brokenError)(nil)

func (e *brokenError) Error() string   { return e.err.Error() }
func (e *brokenError) Unwrap() error   { return e.err }
func (e *brokenError) Timeout() bool   { return !e.asked.Swap(true) }
func (e *brokenError) Temporary() bool { return false }

// broken counts the Reads that found the connection broken. Reads come one after the other.
type broken struct{ reads atomic.Int32 }

// seen is true from the first of them.
func (b *broken) seen() bool { return b.reads.Load() > 0 }

// tell returns what pgconn is told instead of err.
func (b *broken) tell(err error) error {
	var network net.Error
	if err == nil || errors.As(err, &network) && network.Timeout() {
		return err // a deadline: the connection is as it was
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // as pgproto3 says it
	}
	if b.reads.Add(1) > looks {
		return err
	}
	return &brokenError{err: err}
}
