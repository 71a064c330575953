package console

// What is read from a client. While a session waits for a target, its goroutine goes on reading, so
// that it hears of a client that leaves; what came meanwhile is kept for afterwards.

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
)

// maxKept bounds what a client may send while it waits for an answer.
const maxKept = 8192

// errTooMuch: it has sent more.
var errTooMuch = errors.New("too much was sent while an answer was waited for")

type input struct {
	conn  net.Conn
	kept  []byte
	begun [5]byte // of the message that has woken a sleeping session
	taken int     // of the message that is being read
}

// first waits until there is something to read, or nothing will come.
func (in *input) first() {
	if len(in.kept) == 0 {
		n, _ := in.conn.Read(in.begun[:])
		in.kept = in.begun[:n:n]
	}
}

// Read returns what was kept first.
func (in *input) Read(p []byte) (int, error) {
	if len(in.kept) == 0 {
		n, err := in.conn.Read(p)
		in.taken += n
		return n, err
	}
	n := copy(p, in.kept)
	in.taken += n
	if in.kept = in.kept[n:]; len(in.kept) == 0 {
		in.kept = nil
	}
	return n, nil
}

// await reads until the read deadline. Before that, the error is that the client has left, or
// errTooMuch.
func (in *input) await() error {
	var buf [512]byte
	for {
		if ends(in.kept) {
			return io.EOF
		}
		if len(in.kept) > maxKept {
			return errTooMuch
		}
		n, err := in.conn.Read(buf[:])
		in.kept = append(in.kept, buf[:n]...)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// ends tells whether there is a Terminate among the messages.
func ends(messages []byte) bool {
	for len(messages) >= 5 {
		if messages[0] == 'X' {
			return true
		}
		n := 1 + int64(binary.BigEndian.Uint32(messages[1:]))
		if n < 5 || n > int64(len(messages)) {
			return false
		}
		messages = messages[n:]
	}
	return false
}
