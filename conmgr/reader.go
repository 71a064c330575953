package conmgr

// The chunk reader under pgproto3: it bounds the length of a message before anything is allocated,
// and holds next to nothing while a connection is idle. Used by the session's goroutine; blocks on
// the socket.

import (
	"fmt"
	"io"
)

// maxMessage is the longest message that conmgr takes. All its statements are short.
const maxMessage = 8192

// tooLongError: the length that the client announces is out of bounds.
type tooLongError int

func (e tooLongError) Error() string {
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
		return nil, tooLongError(n)
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
