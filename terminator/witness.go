package terminator

// The kernel as a second witness, who is asked at an expired silence only: when the sockets of that
// host's sessions were last heard from. Pure.

import (
	"slices"
	"time"
)

// silenceCutOff is the cut-off after a silence. The host was alive until its next BEAT was due; a
// session that started later than that is one of a host that came back.
func silenceCutOff(last Time, interval time.Duration, now Time) Time {
	return min(last.Add(schedule(interval)), now)
}

// Question is which sessions tell of a host: those that the verdict would end if it fell now, so
// that what came after a power cycle does not keep what was before alive.
type Question struct {
	CutOff    Time   // those that were there by then
	Addresses []Time // and for each of its addresses, by when, of those without its label; 0: of none
}

// Asks tells whether the kernel is asked before a verdict of that cause falls, and what. All other
// causes tell of a host that lives. What has not its label tells of it only if nobody else may be
// heard at the address.
func Asks(cause Cause, f Facts, addresses ...Address) (q Question, ok bool) {
	q.CutOff = silenceCutOff(f.LastReceived, f.Interval, f.Now)
	for _, a := range addresses {
		until := capped(q.CutOff, a.Others)
		if a.Covered || slices.ContainsFunc(a.Others, Other.mayBeHeard) {
			until = 0
		}
		q.Addresses = append(q.Addresses, until)
	}
	return q, cause.Silent()
}

// mayBeHeard tells whether sessions of o's address may be those of another conmgr, or of another
// host.
func (o Other) mayBeHeard() bool { return o.Standing == Awaited || !o.SameBoot }

// Suspends tells whether a host that was heard from at that time is no subject of a verdict yet: it
// has its heartbeat_timeout from then on. It is never waived.
func Suspends(heard, now Time, timeout time.Duration) bool { return heard.Add(timeout) > now }
