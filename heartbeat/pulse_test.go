package heartbeat

// The timers of one end: docs/protocol.md 1.3. Pure; the tests own time.

import (
	"testing"
	"time"
)

const ms = Mono(time.Millisecond)

func TestPulseKeepsItsPhase(t *testing.T) {
	p := NewPulse(time.Second, 2*time.Second, 100*ms)
	for _, c := range []struct {
		at   Mono
		send bool
		next Mono
	}{
		{100 * ms, false, 1100 * ms},
		{1099 * ms, false, 1100 * ms},
		{1100 * ms, true, 2100 * ms},
		{1100 * ms, false, 2100 * ms},
		{2350 * ms, true, 3100 * ms}, // late, but the phase stays
		{3100 * ms, true, 4100 * ms},
		{9000 * ms, true, 10000 * ms}, // a stall: one BEAT, none of those that were missed
		{9000 * ms, false, 10000 * ms},
		{9999 * ms, false, 10000 * ms},
		{10000 * ms, true, 11000 * ms},
		{12000 * ms, true, 13000 * ms}, // exactly a whole interval late
		{12000 * ms, false, 13000 * ms},
	} {
		if got := p.SendDue(c.at); got != c.send || p.NextSend() != c.next {
			t.Fatalf("at %d ms: due %v, next %d ms; want %v, %d ms", c.at/ms, got, p.NextSend()/ms, c.send, c.next/ms)
		}
	}
}

func TestPulseDeadline(t *testing.T) {
	p := NewPulse(time.Second, 2*time.Second, 0)
	if p.Dead(2000*ms-1) || !p.Dead(2000*ms) {
		t.Error("the deadline is not exactly the timeout after the start")
	}
	p.Received(1500 * ms)
	if p.Deadline() != 3500*ms || p.LastReceived() != 1500*ms {
		t.Errorf("deadline %d ms after a reception at 1500", p.Deadline()/ms)
	}
	if p.Interval() != time.Second || p.Timeout() != 2*time.Second {
		t.Error("the settings are others")
	}
	if p.Wake() != 1000*ms {
		t.Errorf("wake at %d ms, want the next BEAT", p.Wake()/ms)
	}
	p = NewPulse(10*time.Second, 2*time.Second, 0) // accepted, with a warning
	if p.Wake() != 2000*ms {
		t.Errorf("wake at %d ms, want the deadline", p.Wake()/ms)
	}
}

func TestPulseLate(t *testing.T) {
	for _, c := range []struct {
		name string
		late []time.Duration
		want time.Duration // by which the deadline moves
	}{
		{"not late", []time.Duration{0}, 0},
		{"half an interval is not more than half", []time.Duration{500 * time.Millisecond}, 0},
		{"just more than half", []time.Duration{501 * time.Millisecond}, 1501 * time.Millisecond},
		{"once per silence", []time.Duration{600 * time.Millisecond, 5 * time.Second}, 1600 * time.Millisecond},
		{"small ones do not use it up", []time.Duration{100 * time.Millisecond, 400 * time.Millisecond,
			2 * time.Second}, 3 * time.Second},
		{"early", []time.Duration{-time.Hour}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := NewPulse(time.Second, 2*time.Second, 0)
			for _, by := range c.late {
				p.Late(by)
			}
			if got := p.Deadline().Sub(2000 * ms); got != c.want {
				t.Errorf("the deadline moved by %v, want %v", got, c.want)
			}
			p.Received(5000 * ms)
			if p.Deadline() != 7000*ms {
				t.Errorf("a reception leaves a deadline of %d ms, want 7000", p.Deadline()/ms)
			}
			p.Late(time.Second)
			if p.Deadline() != 9000*ms {
				t.Errorf("the next silence is not extended: %d ms, want 9000", p.Deadline()/ms)
			}
		})
	}
}

func TestResumePulse(t *testing.T) {
	p := ResumePulse(time.Second, 2*time.Second, 700*ms, 1000*ms)
	if p.Deadline() != 2700*ms || p.NextSend() != 2000*ms {
		t.Errorf("deadline %d ms, next BEAT %d ms; want 2700, 2000", p.Deadline()/ms, p.NextSend()/ms)
	}
	p = ResumePulse(time.Second, 2*time.Second, 9000*ms, 1000*ms) // nothing is received in the future
	if p.Deadline() != 3000*ms {
		t.Errorf("deadline %d ms, want 3000", p.Deadline()/ms)
	}
}

// A connection on which BEATs of 100 ms come in, with packets late by 150 ms each way, stands: what
// is sent there is acknowledged after two ways, 40 ms of patience of the other kernel, and one more
// BEAT that may have to be sent again.
func TestUserTimeout(t *testing.T) {
	const timeout, way, delayedAck, again = 400 * time.Millisecond, 150 * time.Millisecond, 40 * time.Millisecond,
		100 * time.Millisecond
	if got, least := UserTimeout(timeout), 2*way+delayedAck+again; got <= least {
		t.Errorf("given up after %v, which is not more than %v", got, least)
	}
}
