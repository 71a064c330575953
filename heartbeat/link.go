package heartbeat

// What a channel has where both ends have proved that they have the key. Pure.

import (
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// Link is one end of a connection that both ends have proved. A server has thousands: it has no
// pointer, and 64 bytes, which is one line of a processor's cache.
type Link struct {
	proof.Link
	echoes
}

// Prove is for the frames after WELCOME, to be sent in a direction.
func (c *Channel) Prove(h *proof.Handshake, send proof.Direction, timeout time.Duration) {
	c.Link, c.half = &Link{Link: h.Link(), echoes: newEchoes(send)}, halfOf(timeout)
}

// Seal ends the frame that begins at start in b with its proof.
func (l *Link) Seal(b []byte, start int) []byte { return l.Link.Seal(l.send(), b, start) }

// Open tells whether the next frame from the other end is this one, and takes off its proof.
func (l *Link) Open(frame []byte) (payload []byte, ok bool) { return l.Link.Open(l.send(), frame) }

// fresh tells whether a frame that echoes this is a sign of life. Somebody on the way, who cannot
// make a frame, could keep some back, and play them after the host's death.
func (c *Channel) fresh(echo uint32, now Mono) bool {
	return c.Link == nil || !c.Link.stale(echo, now, c.half)
}

// beaten records a BEAT.
func (c *Channel) beaten(now Mono) {
	if c.Link != nil {
		c.Link.beaten(c.sent, now, c.half)
	}
}
