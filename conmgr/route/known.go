package route

// How knowledge grows, and how it is forgotten. Pure.

import (
	"slices"
	"time"
)

// maxTakeovers bounds what is kept of successions: enough to tell a declaration that has been used
// from a new one.
const maxTakeovers = 16

// maxEarlier bounds the promotions that are kept: those of the last standby_timeline_grace count.
const maxEarlier = 16

// Learn adds what the instances say now. settled: where nothing is known yet, whoever can answer
// has had the time for it.
func (k Known) Learn(all []Instance, settled bool, now time.Time) Known {
	k.Takeovers, k.Earlier = slices.Clone(k.Takeovers), slices.Clone(k.Earlier)
	if k.SystemIdentifier == 0 {
		if !settled && !allTold(all) {
			return k
		}
		if k.SystemIdentifier = firstContact(all); k.SystemIdentifier == 0 {
			return k
		}
	}
	k.learnTimeline(all, now)
	for range len(all) { // a successor may have a successor
		in := k.successor(all)
		if in == nil {
			break
		}
		k.note(in)
		k.SystemIdentifier, k.Timeline, k.Earlier, k.At, k.Held = in.SystemIdentifier, 0, nil, in.place(), false
		k.learnTimeline(all, now)
	}
	for i := range all { // predecessors that were never seen, or come back
		if in := &all[i]; in.heard() && in.SystemIdentifier == k.SystemIdentifier && in.Succeeds.SystemIdentifier != 0 {
			k.note(in)
		}
	}
	return k
}

// note keeps the succession that an instance declares: it is in force.
func (k *Known) note(in *Instance) {
	t := Takeover{in.Succeeds.SystemIdentifier, in.SystemIdentifier, in.Succeeds.Timeline}
	if slices.Contains(k.Takeovers, t) || t.From == t.To {
		return
	}
	k.Takeovers = append(k.Takeovers, t)
	if n := len(k.Takeovers) - maxTakeovers; n > 0 {
		k.Takeovers = slices.Delete(k.Takeovers, 0, n)
	}
}

func allTold(all []Instance) bool {
	return !slices.ContainsFunc(all, func(in Instance) bool { return !in.Told })
}

// learnTimeline raises the timeline, and finds who holds it. Primaries come first: one of them can
// hold it.
func (k *Known) learnTimeline(all []Instance, now time.Time) {
	for _, primary := range []bool{true, false} {
		for i := range all {
			in := &all[i]
			if in.heard() && in.SystemIdentifier == k.SystemIdentifier && in.isPrimary() == primary &&
				in.Attributes.Timeline > k.Timeline {
				k.leave()
				k.Timeline, k.Since, k.At, k.Held = in.Attributes.Timeline, now, in.place(), primary
			}
		}
	}
	if holder := k.findHolder(all); holder != nil {
		k.At, k.Held = holder.place(), true
	}
}

// leave keeps the timeline among the earlier ones.
func (k *Known) leave() {
	if k.Timeline == 0 {
		return
	}
	k.Earlier = append(k.Earlier, Step{k.Timeline, k.Since})
	if n := len(k.Earlier) - maxEarlier; n > 0 {
		k.Earlier = slices.Delete(k.Earlier, 0, n)
	}
}

// findHolder returns who holds the timeline among those that say so, nil if nobody does. It is the
// server that was known to hold it, or the same entry after a restart. Another one has been
// promoted to the same timeline, and is refused, for as long as the holder is among the instances
// of conmgr.conf.
func (k *Known) findHolder(all []Instance) *Instance {
	var first, started, entry, both *Instance
	for i := range all {
		in := &all[i]
		if !in.heard() || in.SystemIdentifier != k.SystemIdentifier || !in.isPrimary() ||
			in.Attributes.Timeline != k.Timeline || k.Timeline == 0 {
			continue
		}
		same, start := k.At.sameEntry(in), k.At.PostmasterStart == in.PostmasterStart
		for _, c := range []struct {
			is   bool
			slot **Instance
		}{{true, &first}, {start, &started}, {same, &entry}, {same && start, &both}} {
			if c.is && *c.slot == nil {
				*c.slot = in
			}
		}
	}
	configured := slices.ContainsFunc(all, func(in Instance) bool { return k.At.sameEntry(&in) })
	switch {
	case !k.Held || !configured && started == nil:
		return first
	case both != nil:
		return both
	case started != nil:
		return started
	}
	return entry
}

// successor is an instance of another cluster that declares to take the set's place.
func (k *Known) successor(all []Instance) *Instance {
	for i := range all {
		in := &all[i]
		s := in.Succeeds
		if !in.heard() || in.SystemIdentifier == k.SystemIdentifier || s.SystemIdentifier != k.SystemIdentifier ||
			s.Timeline < k.Timeline {
			continue
		}
		if !slices.Contains(k.Takeovers, Takeover{k.SystemIdentifier, in.SystemIdentifier, s.Timeline}) {
			return in
		}
	}
	return nil
}

// firstContact finds the set's system identifier where none is known: the one of most servers, and
// of as many the one of the instance with the lowest number, as the order of conmgr.conf is all
// that the administrator has said. Who answered first does not count. 0: nobody is heard.
func firstContact(all []Instance) uint64 {
	type server struct {
		system uint64
		start  int64
	}
	servers := map[server]bool{} // two entries may be one server
	votes := map[uint64]int{}
	timelines := map[uint64]uint32{}
	for i := range all {
		in := &all[i]
		if !in.heard() || in.SystemIdentifier == 0 {
			continue
		}
		timelines[in.SystemIdentifier] = max(timelines[in.SystemIdentifier], in.Attributes.Timeline)
		if s := (server{in.SystemIdentifier, in.PostmasterStart}); !servers[s] {
			servers[s] = true
			votes[in.SystemIdentifier]++
		}
	}
	succeeds := func(a, b uint64) bool {
		return slices.ContainsFunc(all, func(in Instance) bool {
			return in.heard() && in.SystemIdentifier == a && in.Succeeds.SystemIdentifier == b &&
				in.Succeeds.Timeline >= timelines[b]
		})
	}
	best := uint64(0)
	for i := range all { // in the order of their numbers: of equals the first one wins
		a := all[i].SystemIdentifier
		if !all[i].heard() || a == 0 || best != 0 && votes[a] <= votes[best] {
			continue
		}
		left := false // behind by a successor's declaration, unless each has declared to succeed the other
		for b := range votes {
			left = left || succeeds(b, a) && !succeeds(a, b)
		}
		if !left {
			best = a
		}
	}
	return best
}

// Forget returns what is known without what one instance told; number < 0: without anything. What
// the others say now counts at once.
func (k Known) Forget(number int, all []Instance, now time.Time) Known {
	if number < 0 {
		return Known{}
	}
	if k.Timeline == 0 || k.At.Instance != number {
		return k
	}
	others := slices.DeleteFunc(slices.Clone(all), func(in Instance) bool { return in.Number == number })
	k.Timeline, k.Since, k.Earlier, k.At, k.Held = 0, time.Time{}, nil, Place{}, false
	return k.Learn(others, true, now)
}
