package terminator

import "testing"

// TestGivesWay: who may lose its slot, to a newcomer of an address that has one (later) or has none
// (first).
func TestGivesWay(t *testing.T) {
	for _, c := range []struct {
		name         string
		h            Holder
		later, first bool
	}{
		{"connected", Holder{Siblings: 1}, false, false},
		{"one of two of its address", Holder{Siblings: 2}, false, true},
		{"the network broke its connection", Holder{Left: Broken, Siblings: 1}, false, false},
		{"closed", Holder{Left: Finished, Siblings: 1}, false, true},
		{"reset", Holder{Left: Reset, Siblings: 1}, false, true},
		{"spared", Holder{Left: Finished, Standing: Remembered}, true, true},
		{"spared, and the terminator is not done", Holder{Left: Finished, Standing: Remembered, Claimed: true}, false, false},
		{"one of two, and the terminator is not done", Holder{Siblings: 2, Claimed: true}, false, false},
		{"without a proof, which the newcomer has", Holder{Siblings: 1, Yields: true}, true, true},
		{"without a proof, and the terminator is not done", Holder{Siblings: 1, Yields: true, Claimed: true}, false, false},
		{"its verdict is put off, and it has no proof", Holder{Standing: PutOff, Siblings: 1, Yields: true}, false, false},
		{"its verdict is put off", Holder{Left: Finished, Standing: PutOff, Siblings: 2}, false, false},
	} {
		if later, first := c.h.GivesWay(false), c.h.GivesWay(true); later != c.later || first != c.first {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, later, first, c.later, c.first)
		}
	}
}

// TestBefore: who of two loses its slot, in whatever order they are looked at.
func TestBefore(t *testing.T) {
	spared := func(order uint64) Holder { return Holder{Standing: Remembered, Order: order} }
	for _, c := range []struct {
		name string
		a, b Holder // a goes
	}{
		{"spared, before one of many", spared(9), Holder{Siblings: 5, Order: 10}},
		{"spared, the older one", spared(1), spared(2)},
		{"one of many, before one that has left", Holder{Siblings: 2, Order: 1}, Holder{Left: Finished, Siblings: 1}},
		{"spared, before one without a proof", spared(9), Holder{Siblings: 1, Order: 10, Yields: true}},
		{"without a proof, before one of many", Holder{Siblings: 1, Order: 1, Yields: true}, Holder{Siblings: 5, Order: 9}},
		{"without a proof, the youngest", Holder{Siblings: 1, Order: 4, Yields: true}, Holder{Siblings: 1, Order: 3, Yields: true}},
		{"without a proof, of the address that has most", Holder{Siblings: 2, Order: 3, Yields: true},
			Holder{Siblings: 1, Order: 4, Yields: true}},
		{"of the address that has most", Holder{Siblings: 3, Order: 1}, Holder{Siblings: 2, Order: 9}},
		{"the youngest", Holder{Siblings: 2, Order: 4}, Holder{Siblings: 2, Order: 3}},
		{"who has left first", Holder{Left: Reset, Since: 5, Order: 9, Siblings: 1},
			Holder{Left: Finished, Since: 6, Order: 1, Siblings: 1}},
		{"who has left first, and was there first", Holder{Left: Reset, Since: 5, Order: 1, Siblings: 1},
			Holder{Left: Finished, Since: 5, Order: 2, Siblings: 1}},
	} {
		if !c.a.Before(c.b, true) || c.b.Before(c.a, true) {
			t.Error(c.name)
		}
	}
}
