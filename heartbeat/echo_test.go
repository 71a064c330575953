package heartbeat

import (
	"reflect"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// timed are echoes with the half of a timeout, as a channel has them.
type timed struct {
	echoes
	half rough
}

func newHalves(timeout time.Duration) *timed {
	return &timed{newEchoes(proof.FromWatchdog), halfOf(timeout)}
}

func (e *timed) beaten(sequence uint32, now Mono) { e.echoes.beaten(sequence, now, e.half) }

func (e *timed) stale(echo uint32, now Mono) bool { return e.echoes.stale(echo, now, e.half) }

// TestEchoes: what was sent two timeouts ago is stale half a timeout later at the latest, and not
// before; whatever the rhythm, and when the clock or the sequence wraps.
func TestEchoes(t *testing.T) {
	const timeout = 3 * time.Second
	for _, interval := range []time.Duration{10 * time.Millisecond, time.Second, 2 * time.Second, 10 * time.Second} {
		for _, start := range []Mono{0, Mono((1<<32 - 5000) * int64(time.Millisecond))} {
			for _, first := range []uint32{1, 1<<32 - 7} {
				e := newHalves(timeout)
				sent := map[uint32]Mono{}
				now, sequence := start, first
				for range 3000 {
					e.beaten(sequence, now)
					sent[sequence] = now
					for s, at := range sent {
						age := now.Sub(at)
						if stale := e.stale(s, now); stale && age <= 2*timeout ||
							!stale && age > 2*timeout+timeout/2 && s != 0 { // which is the echo of one who has heard nothing
							t.Fatalf("interval %v: a BEAT of %v ago: stale %v", interval, age, stale)
						}
						if age > 4*timeout && age > 4*interval {
							delete(sent, s)
						}
					}
					now, sequence = now.Add(interval), sequence+1
				}
			}
		}
	}
	e := newHalves(timeout)
	if e.stale(0, 0) || e.stale(5, second*1000) {
		t.Error("something is stale before anything was sent")
	}
	e.beaten(1, 0)
	if e.stale(0, 6*second) || !e.stale(0, 7*second+second/2) {
		t.Error("who has heard nothing for so long tells nothing new")
	}
	const day = Mono(24 * time.Hour)
	e = newHalves(20 * time.Duration(day))
	e.beaten(1, 0)
	if e.stale(1, 40*day) || !e.stale(1, 51*day) {
		t.Error("a timeout of weeks")
	}
}

// TestEchoesAfterAStop: what was sent before this process was stopped is stale after it, however long
// that was.
func TestEchoesAfterAStop(t *testing.T) {
	const timeout, wrap = time.Second, 1 << 31
	for _, begun := range []Mono{0, Mono(wrap-3) * Mono(timeout/2)} { // where the numbers wrap, too
		for bits := range 31 {
			for halvesMore := range Mono(6) {
				e := newHalves(timeout)
				e.beaten(6, begun)
				e.beaten(7, begun.Add(timeout))
				now := begun + (6+1<<bits+halvesMore)*Mono(timeout/2)
				if now-begun > Mono(wrap-6)*Mono(timeout/2) {
					continue
				}
				if !e.stale(7, now) {
					t.Fatalf("after %v: it is taken for fresh", now.Sub(begun))
				}
				e.beaten(8, now)
				if !e.stale(7, now) || e.stale(8, now) {
					t.Fatalf("after %v, and another BEAT: stale %v, that %v", now.Sub(begun), e.stale(7, now), e.stale(8, now))
				}
				if d := e.send(); d != proof.FromWatchdog {
					t.Fatalf("the direction is %d", d)
				}
			}
		}
	}
}

// TestRough: what is kept of a number is not less, and a thousandth more at most.
func TestRough(t *testing.T) {
	for bits := range 32 {
		for _, d := range []int64{-2, -1, 0, 1, 2} {
			n := max(0, int64(1)<<bits+d)
			if v := int64(roughly(uint64(n)).value()); v < n || v > n+n/1000 || n < 1<<roughBits && v != n {
				t.Errorf("%d is kept as %d", n, v)
			}
		}
	}
}

// TestLinkIsSmall: a watchdog has thousands.
func TestLinkIsSmall(t *testing.T) {
	if link, channel := reflect.TypeOf(Link{}).Size(), reflect.TypeOf(Channel{}).Size(); link != 64 || channel != 32 {
		t.Errorf("%d and %d bytes", link, channel)
	}
}
