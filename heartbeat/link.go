package heartbeat

// What a channel has where both ends have proved that they have the key. Pure.

import (
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// Link is one end of a connection that both ends have proved.
type Link struct {
	proof.Link
	timeout time.Duration // heartbeat_timeout
	echoes  echoes
}

// NewLink is for the frames after WELCOME.
func NewLink(h *proof.Handshake, send proof.Direction, timeout time.Duration) *Link {
	return &Link{Link: h.Link(send), timeout: timeout}
}

// fresh tells whether a frame that echoes this is a sign of life. Somebody on the way, who cannot
// make a frame, could keep some back, and play them after the host's death.
func (l *Link) fresh(echo uint32, now Mono) bool {
	return l == nil || !l.echoes.stale(echo, now, l.timeout)
}

// sent records a BEAT.
func (l *Link) sent(sequence uint32, now Mono) {
	if l != nil {
		l.echoes.sent(sequence, now, l.timeout)
	}
}
