package backend

// Reading what a client says. The chunk reader under pgproto3 bounds the length of a message before
// anything is allocated, and holds next to nothing while a connection is idle. Used by the session's
// goroutine; blocks on the socket.

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgproto3/v2"
)

// maxMessage is the longest message that conmgr takes. All its statements are short.
const maxMessage = 8192

// TooLongError is an error: the length that the client announces is out of bounds.
type TooLongError int

func (e TooLongError) Error() string {
	return fmt.Sprintf("message of %d bytes is longer than %d", int(e), maxMessage)
}

// boundedReader implements pgproto3.ChunkReader.
type boundedReader struct {
	r     io.Reader
	first [5]byte // header of the next message: all that an idle connection needs
}

// Next returns n bytes, which the caller may keep until the next call.
func (b *boundedReader) Next(n int) ([]byte, error) {
	if n < 0 || n > maxMessage {
		return nil, TooLongError(n)
	}
	var p []byte
	if n <= len(b.first) {
		p = b.first[:n]
	} else {
		p = make([]byte, n)
	}
	if _, err := io.ReadFull(b.r, p); err != nil {
		return nil, err
	}
	return p, nil
}

// BadMessageError is a message that cannot be decoded.
type BadMessageError struct{ text string }

func (e *BadMessageError) Error() string { return e.text }

// Backend is the server's end of a connection after its startup.
type Backend struct{ b *pgproto3.Backend }

// New reads from r.
func New(r io.Reader) *Backend {
	return &Backend{pgproto3.NewBackend(&boundedReader{r: r}, nil)}
}

// Receive returns the next message, with errors told apart: a *BadMessageError, a TooLongError, or the
// reader's. pgproto3's decoders return errors without a type, and some panic on short messages.
func (b *Backend) Receive() (m Message, err error) {
	defer func() {
		if recover() != nil {
			m, err = nil, &BadMessageError{"invalid message format"}
		}
	}()
	m, err = b.b.Receive()
	var ne net.Error
	var long TooLongError
	if err != nil && !errors.As(err, &ne) && !errors.As(err, &long) && !errors.Is(err, io.EOF) &&
		!errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) {
		err = &BadMessageError{err.Error()}
	}
	return m, err
}
