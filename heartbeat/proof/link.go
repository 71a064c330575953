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

// Link is one end of a connection that both ends have proved. It is owned by one goroutine.
type Link struct {
	key            *Key
	frames         sum    // k_f
	sent, received uint64 // frames so far: the number of the next one
	send           Direction
}

// Key is the one that was proved.
func (l *Link) Key() *Key { return l.key }

// Renew has the same key stand elsewhere: among those of a file that was read again.
func (l *Link) Renew(k *Key) { l.key = k }

func (l *Link) mac(d Direction, n uint64, frame []byte) sum {
	var head [9]byte
	head[0] = byte(d)
	binary.BigEndian.PutUint64(head[1:], n)
	return hmacOf(&l.frames, head[:], frame)
}

// Seal ends the frame that begins at start in b with its MAC.
func (l *Link) Seal(b []byte, start int) []byte {
	lengthen(b[start:], FrameMACSize)
	mac := l.mac(l.send, l.sent, b[start:])
	l.sent++
	return append(b, mac[:FrameMACSize]...)
}

// Open tells whether the next frame from the other end is this one. The payload is what is left
// without the MAC.
func (l *Link) Open(frame []byte) (payload []byte, ok bool) {
	n := len(frame) - FrameMACSize
	if n < headerSize {
		return nil, false
	}
	mac := l.mac(FromConmgr+FromWatchdog-l.send, l.received, frame[:n])
	if subtle.ConstantTimeCompare(mac[:FrameMACSize], frame[n:]) != 1 {
		return nil, false
	}
	l.received++
	return frame[headerSize:n], true
}
