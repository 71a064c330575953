package heartbeat

// The two timers of one end of a heartbeat connection: when to send the next BEAT, and when the
// peer's silence has lasted too long.

import "time"

// Mono is a time on the monotonic clock (CLOCK_MONOTONIC) in nanoseconds. Its origin is the boot of
// the machine, so that it means the same to a worker that was restarted. Wall clocks jump; no
// verdict reads one.
type Mono int64

// Add returns t + d.
func (t Mono) Add(d time.Duration) Mono { return t + Mono(d) }

// Sub returns t - u.
func (t Mono) Sub(u Mono) time.Duration { return time.Duration(t - u) }

// Pulse holds both timers. Its zero value is not usable; see NewPulse.
type Pulse struct {
	interval, timeout time.Duration
	nextSend          Mono
	lastReceived      Mono
	until             Mono          // the deadline of this silence is not before it: see Await
	grace             time.Duration // by which the deadline of this silence has been extended: see Late
}

// NewPulse starts both timers: something has just been received, and the next BEAT is due one
// interval from now.
func NewPulse(interval, timeout time.Duration, now Mono) Pulse {
	return Pulse{interval: interval, timeout: timeout, nextSend: now.Add(interval), lastReceived: now}
}

// ResumePulse starts them for a peer last heard of at lastReceived, by an earlier connection or
// process.
func ResumePulse(interval, timeout time.Duration, lastReceived, now Mono) Pulse {
	p := NewPulse(interval, timeout, now)
	p.lastReceived = min(lastReceived, now)
	return p
}

// Received records that a frame came in, and so re-arms the deadline.
func (p *Pulse) Received(now Mono) {
	p.lastReceived = now
	p.until, p.grace = 0, 0
}

// Await lets the peer have until then to come back.
func (p *Pulse) Await(until Mono) { p.until = max(p.until, until) }

// Heard records that the peer's host was heard of otherwise.
func (p *Pulse) Heard(at Mono) {
	if at > p.lastReceived {
		p.lastReceived = at
		p.grace = 0
	}
}

// SendDue tells whether a BEAT is due, and if so sets the timer for the one after it. The timer
// keeps its phase; BEATs that were missed are not made up for.
func (p *Pulse) SendDue(now Mono) bool {
	if now < p.nextSend {
		return false
	}
	p.nextSend = p.nextSend.Add(p.interval)
	if p.nextSend <= now {
		p.nextSend = now.Add(p.interval)
	}
	return true
}

// Align moves the next BEAT so that one is due at a time, or whole intervals from it: sooner by a
// quarter of an interval at most, and later only as clocks drift.
func (p *Pulse) Align(at Mono) {
	d := at.Sub(p.nextSend) % p.interval
	switch {
	case d > p.interval/2:
		d -= p.interval
	case d <= -p.interval/2:
		d += p.interval
	}
	p.nextSend = p.nextSend.Add(min(max(d, -p.interval/4), p.interval/1024))
}

// NextSend is when the next BEAT is due.
func (p *Pulse) NextSend() Mono { return p.nextSend }

// LastReceived is when the peer was last heard of.
func (p *Pulse) LastReceived() Mono { return p.lastReceived }

// Interval is heartbeat_interval.
func (p *Pulse) Interval() time.Duration { return p.interval }

// Timeout is heartbeat_timeout.
func (p *Pulse) Timeout() time.Duration { return p.timeout }

// Deadline is when silence becomes a verdict.
func (p *Pulse) Deadline() Mono { return max(p.lastReceived.Add(p.timeout), p.until).Add(p.grace) }

// Dead tells whether the deadline has passed. Read what the kernel holds before asking.
func (p *Pulse) Dead(now Mono) bool { return now >= p.Deadline() }

// Wake is when the owner has to look again: the earlier of the next BEAT and the deadline.
func (p *Pulse) Wake() Mono { return min(p.nextSend, p.Deadline()) }

// Late tells that a timer of this process fired late by the given delay: it was stopped, starved of
// CPU, or its machine was paused, and the peer's packets may have met the same fate. If that was
// more than half an interval, the deadline moves by the delay and one interval more: time for a
// packet that was lost meanwhile to be sent again. Once per silence, so that constant stalls cannot
// put a verdict off for ever.
func (p *Pulse) Late(by time.Duration) {
	if by > p.interval/2 && p.grace == 0 {
		p.grace = by + p.interval
	}
}

// UserTimeout is TCP_USER_TIMEOUT of a heartbeat connection, after which the kernel gives it up with
// what is not acknowledged. That is later than the deadline: with heartbeat_timeout itself, where
// packets were late by up to 150 ms each way, connections were broken on which BEATs came in.
func UserTimeout(timeout time.Duration) time.Duration { return 2 * timeout }
