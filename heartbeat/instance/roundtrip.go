package instance

// Round trips, measured from BEATs that are sent anyway: the time from one of ours to the first of
// the watchdog's that echoes it, less the time for which the watchdog had it. Pure.

import (
	"math"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// sentBeats is when the last BEATs were sent, by their sequences. So many may be under way.
type sentBeats [32]heartbeat.Mono

// mostHeld is what 32 bits hold of the time for which a BEAT was held.
const mostHeld = math.MaxUint32 * time.Microsecond

// roundTrip tells what a BEAT on a connection says of the round trip: once for each BEAT of ours
// that is echoed.
func (in *Instance) roundTrip(now heartbeat.Mono, l *line) {
	echo, held := l.ch.Echo(), l.ch.Held()
	if held == 0 || int32(echo-l.measured) <= 0 || l.ch.Sent()-echo >= uint32(len(l.sent)) {
		return
	}
	l.measured = echo
	passed := now.Sub(l.sent[echo%uint32(len(l.sent))])
	if passed > mostHeld || held > passed+time.Millisecond {
		return // it has wrapped, or is made up
	}
	in.act(Action{Kind: RoundTrip, Took: max(0, passed-held)})
}
