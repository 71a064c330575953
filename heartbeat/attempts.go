package heartbeat

// When conmgr connects to a watchdog again, and how long an attempt may take. Pure.

import "time"

// Outcome of an attempt to connect.
type Outcome uint8

const (
	Unreached Outcome = iota
	Severed           // a connection was established, and has ended
	AtOnce            // try again at once, whatever the pause: there is something new to tell or to follow
)

// FirstPause follows the attempt that is made at once when a connection has broken; it is doubled
// up to heartbeat_connect_interval, but near the deadline it is again as short as this.
const FirstPause = 50 * time.Millisecond

// LeastAttempt is what an attempt has at least when the deadline is near.
const LeastAttempt = 250 * time.Millisecond

// A connection that is in doubt is not waited for: another one is opened beside it. *s* is for how
// long a BEAT may be late, the numbers are of a model of TCP with loss (docs/design.md, Evidence).
const (
	doubtShare = 8                      // of what is left after an interval, until heartbeat_timeout: s
	leastDoubt = 20 * time.Millisecond  // s is never shorter: a process is not always run at once
	mostDoubt  = 500 * time.Millisecond // nor longer: that is enough for any path
	// ackAllowance is what a BEAT of ours may take beside s to be acknowledged: a kernel delays
	// that by up to 40 ms.
	ackAllowance = 45 * time.Millisecond

	spacingShare = 8                     // of what is left until the nearest deadline, between two of them
	leastSpacing = 30 * time.Millisecond // more often is a flood
	mostSpacing  = 1 * time.Second       // less often is to wait

	// MostBeside may be under way at a time: with the least spacing, no round trip takes longer
	// than so many.
	MostBeside = 8
	// BesideTime is what one of them has: as long as a kernel waits before it repeats a SYN.
	BesideTime = 1 * time.Second
)

// Doubt is for how long a BEAT may be late before another connection is opened.
func Doubt(interval, timeout time.Duration) time.Duration {
	return min(max((timeout-interval)/doubtShare, leastDoubt), mostDoubt)
}

// AckTime is what a BEAT of ours may take to be acknowledged.
func AckTime(interval, timeout time.Duration) time.Duration {
	return Doubt(interval, timeout) + ackAllowance
}

// Spacing is the time between two connections that are opened beside, with that much left until the
// nearest deadline. random is from 0 to 1: those who have lost their connections at one time, by
// one fault, are not to come at one time.
func Spacing(left time.Duration, random float64) time.Duration {
	d := min(max(left/spacingShare, leastSpacing), mostSpacing)
	return d*3/4 + time.Duration(random*float64(d/2))
}

// Attempts is the rhythm of attempts to reach one instance.
type Attempts struct {
	Interval time.Duration // heartbeat_connect_interval
	Timeout  time.Duration // heartbeat_connect_timeout
	// DuplicateCheck is the least time after which a duplicate looks where its address leads.
	DuplicateCheck time.Duration

	pause time.Duration
	since Mono // when the last connection was established
}

// Established records that a connection stands.
func (a *Attempts) Established(now Mono) { a.since = now }

// Pause is the time until the next attempt. A connection that has broken is wanted back before its
// deadline: at once if it had stood for a while, then soon, and never later than the deadline
// allows. Otherwise heartbeat_connect_interval holds; only the first attempt after a loss is made
// at once.
func (a *Attempts) Pause(now Mono, m *Monitor, o Outcome) time.Duration {
	switch {
	case m.state == Duplicate:
		return max(m.timeout, a.DuplicateCheck)
	case o == AtOnce:
		a.pause = a.Interval
		return 0
	case !m.armed || m.state == Stopping || m.state == Stopped:
		a.pause = a.Interval
		return a.Interval
	case o == Severed && now.Sub(a.since) >= a.Interval:
		a.pause = 0
		return 0
	}
	a.pause = min(max(2*a.pause, FirstPause), a.Interval)
	return min(a.pause, max(FirstPause, m.pulse.Deadline().Sub(now)/4))
}

// Limit is the end of an attempt that begins now: heartbeat_connect_timeout, but one that waits for
// a packet that was lost must not take what is left until the deadline, nor may the look of a
// duplicate be under way when it is needed.
func (a *Attempts) Limit(now Mono, m *Monitor) Mono {
	most := a.Timeout
	if m.armed && m.state == Connecting {
		most = min(most, max(m.pulse.Deadline().Sub(now)/2, LeastAttempt))
	}
	if m.state == Duplicate {
		most = min(most, max(m.timeout/2, LeastAttempt))
	}
	return now.Add(most)
}
