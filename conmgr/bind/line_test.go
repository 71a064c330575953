package bind

// Tests of the line of those who wait: order and rate, on a clock of their own.

import (
	"slices"
	"testing"
	"time"
)

// A few go at once, and the others after them, in order and by rate. Another table at the same time
// makes no new room; who cannot go holds up nobody.
func TestLineIsSpread(t *testing.T) {
	var l line
	now := time.Unix(1000, 0)
	number := map[*Waiter]int{}
	for i := range 300 {
		w := &Waiter{Member: &place{}, Target: "primary"}
		if i%3 == 2 {
			w.Target = "standby"
		}
		number[w] = i
		l.join(w)
	}
	var gone []int
	release := func(target string) time.Time {
		return l.release(now, func(w *Waiter) bool { return w.Target == target },
			func(w *Waiter) { gone = append(gone, number[w]) })
	}
	if next := release("none"); !next.IsZero() || len(gone) > 0 || l.behind {
		t.Fatalf("%d go to nothing, next %v", len(gone), next)
	}
	next := release("primary")
	if len(gone) != releaseBurst || !next.Equal(now.Add(releasePause)) || !l.behind {
		t.Fatalf("%d go at once, next %v", len(gone), next)
	}
	if release("primary"); len(gone) != releaseBurst {
		t.Errorf("%d go by another table", len(gone))
	}
	for ; !next.IsZero(); next = release("primary") {
		if now = next; now.Sub(time.Unix(1000, 0)) > time.Second {
			t.Fatal("they do not go")
		}
	}
	if took := now.Sub(time.Unix(1000, 0)); took != 100*time.Millisecond {
		t.Errorf("200 have gone in %v", took)
	}
	if !slices.IsSorted(gone) || len(gone) != 200 || l.behind || l.counted != 100 {
		t.Errorf("%d have gone, %v; %d are left", len(gone), gone, l.counted)
	}
	gone = nil
	now = now.Add(time.Hour) // there is no more room for that
	if release("standby"); len(gone) != releaseBurst || l.counted != 0 || len(l.all()) != 0 {
		t.Errorf("then %d of 100 have gone, %d are left", len(gone), l.counted)
	}
}

// Who is bound already, but for conmgr's knowing of it, is not held back.
func TestResumingIsNotSpread(t *testing.T) {
	var l line
	n := 0
	for range 2 * releaseBurst {
		l.join(&Waiter{Member: &place{}, Resumes: true})
	}
	l.join(&Waiter{Member: &place{}})
	if l.counted != 1 {
		t.Errorf("%d are counted", l.counted)
	}
	next := l.release(time.Unix(1, 0), func(*Waiter) bool { return true }, func(*Waiter) { n++ })
	if n != 2*releaseBurst+1 || !next.IsZero() {
		t.Errorf("%d have gone, next %v", n, next)
	}
}
