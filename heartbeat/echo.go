package heartbeat

// When the BEATs were sent that the other end echoes. Pure.

import "time"

// echoes remembers for some of the BEATs when they were sent: often enough to tell which ones are
// older than two timeouts, half of one more or less, and in little memory. A server has thousands.
type echoes struct {
	n    uint8 // marks so far, up to all
	next uint8 // the one to be overwritten
	mark [6]struct{ sequence, ms uint32 }
}

func milliseconds(t Mono) uint32 { return uint32(t / Mono(time.Millisecond)) } // wraps after 49 days

// staleAfter so many timeouts an answer tells of life no more.
const staleAfter = 2

// longest timeout for which this is kept: what wraps must not be taken for the other way round.
const longestEchoed = 10 * 24 * time.Hour

// sent records a BEAT.
func (e *echoes) sent(sequence uint32, now Mono, timeout time.Duration) {
	at, size := milliseconds(now), uint8(len(e.mark))
	if last := e.mark[(e.next+size-1)%size].ms; e.n > 0 && int64(at-last) < timeout.Milliseconds()/2 {
		return
	}
	e.mark[e.next].sequence, e.mark[e.next].ms = sequence, at
	e.next, e.n = (e.next+1)%size, min(e.n+1, size)
}

// stale tells whether what is echoed was sent more than two timeouts ago, or never.
func (e *echoes) stale(echo uint32, now Mono, timeout time.Duration) bool {
	at := milliseconds(now)
	for _, m := range e.mark[:e.n] {
		if int64(at-m.ms) > staleAfter*timeout.Milliseconds() && int32(echo-m.sequence) <= 0 {
			return timeout <= longestEchoed
		}
	}
	return false
}
