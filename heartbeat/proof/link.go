package proof

// The frames after WELCOME: each ends in a MAC that holds its direction and its number on this
// connection, so that none can be made up, changed, left out, repeated, or sent back.

import (
	"crypto/subtle"
	"encoding/binary"
)

// Direction of a frame.
type Direction uint8

// The values are part of the protocol.
const (
	FromConmgr   Direction = 1
	FromWatchdog Direction = 2
)

// other is what the other end sends in.
func (d Direction) other() Direction { return FromConmgr + FromWatchdog - d }

// Link is one end of a connection that both ends have proved. It is owned by one goroutine. A server
// has thousands, so it does not keep what its owner knows: which direction it sends in.
type Link struct {
	frames         sum    // k_f
	sent, received uint64 // frames so far: the number of the next one
}

func (l *Link) mac(d Direction, n uint64, frame []byte) sum {
	var head [9]byte
	head[0] = byte(d)
	binary.BigEndian.PutUint64(head[1:], n)
	return hmacOf(&l.frames, head[:], frame)
}

// Seal ends the frame that begins at start in b with its MAC. send is this end's direction.
func (l *Link) Seal(send Direction, b []byte, start int) []byte {
	lengthen(b[start:], FrameMACSize)
	mac := l.mac(send, l.sent, b[start:])
	l.sent++
	return append(b, mac[:FrameMACSize]...)
}

// Open tells whether the next frame from the other end is this one. send is this end's direction.
// The payload is what is left without the MAC.
func (l *Link) Open(send Direction, frame []byte) (payload []byte, ok bool) {
	n := len(frame) - FrameMACSize
	if n < headerSize {
		return nil, false
	}
	mac := l.mac(send.other(), l.received, frame[:n])
	if subtle.ConstantTimeCompare(mac[:FrameMACSize], frame[n:]) != 1 {
		return nil, false
	}
	l.received++
	return frame[headerSize:n], true
}
