package heartbeat

import (
	"testing"
	"time"
)

// TestEchoes: what was sent two timeouts ago is stale half a timeout later at the latest, and not
// before; whatever the rhythm, and when the clock or the sequence wraps.
func TestEchoes(t *testing.T) {
	const timeout = 3 * time.Second
	for _, interval := range []time.Duration{10 * time.Millisecond, time.Second, 2 * time.Second, 10 * time.Second} {
		for _, start := range []Mono{0, Mono((1<<32 - 5000) * int64(time.Millisecond))} {
			for _, first := range []uint32{1, 1<<32 - 7} {
				var e echoes
				sent := map[uint32]Mono{}
				now, sequence := start, first
				for range 3000 {
					e.sent(sequence, now, timeout)
					sent[sequence] = now
					for s, at := range sent {
						age := now.Sub(at)
						if stale := e.stale(s, now, timeout); stale && age <= 2*timeout ||
							!stale && age > 2*timeout+timeout/2+interval {
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
	var e echoes
	if e.stale(0, 0, timeout) || e.stale(5, second*1000, timeout) {
		t.Error("something is stale before anything was sent")
	}
	e.sent(1, 0, timeout)
	if e.stale(0, 6*second, timeout) || !e.stale(0, 7*second, timeout) {
		t.Error("who has heard nothing for so long tells nothing new")
	}
	e = echoes{}
	e.sent(1, 0, 20*24*time.Hour)
	if e.stale(1, Mono(49*24*time.Hour), 20*24*time.Hour) {
		t.Error("a timeout of weeks")
	}
}
