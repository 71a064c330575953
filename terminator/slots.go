package terminator

// On whom no verdict will ever fall, as its slot is needed for a newcomer: its sessions stay. Pure.

// Holder is what counts of a conmgr that has a slot.
type Holder struct {
	Standing Standing
	Left     Parting // how its connection ended, if it has
	Since    Time    // when that was
	Order    uint64  // of its admission
	Siblings int     // the conmgrs of its address that are awaited, itself among them
	Claimed  bool    // the terminator has to end its sessions first
	Yields   bool    // it has not proved who it is, and the newcomer has
}

// turn is when h may have to give way, 0: never. A verdict that was put off always falls.
func (h Holder) turn(first bool) int {
	switch {
	case h.Claimed || h.Standing == PutOff:
		return 0
	case h.Standing == Remembered: // its sessions were spared
		return 1
	case h.Yields:
		return 2
	case first && h.Siblings > 1:
		return 3
	case first && h.Left != Broken: // it may be about to resume
		return 4
	}
	return 0
}

// GivesWay tells whether h may have to make room for a newcomer at all. first: the newcomer's
// address has no slot.
func (h Holder) GivesWay(first bool) bool { return h.turn(first) != 0 }

// Before tells whether h gives way before o, where both may have to: of those that were spared, the
// one that was there first; the last admitted one of the address that has most, as the address's
// real conmgr was there before, if it is one process that takes all the slots, and so of those that
// yield to a proof; the one that has left first.
func (h Holder) Before(o Holder, first bool) bool {
	if a, b := h.turn(first), o.turn(first); a != b {
		return a < b
	}
	switch h.turn(first) {
	case 1:
		return h.Order < o.Order
	case 2, 3:
		return h.Siblings > o.Siblings || h.Siblings == o.Siblings && h.Order > o.Order
	}
	return h.Since < o.Since || h.Since == o.Since && h.Order < o.Order
}
