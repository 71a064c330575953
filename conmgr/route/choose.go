package route

// The choice among the instances that are used, and what is said of it. Pure: how many connections
// there are, and what is left to chance, go in.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Request is what an application asks for.
type Request struct {
	Want   cm.Attribute
	Except []int               // numbers of instances
	Lag    *heartbeat.LagLimit // instead of standby_max_lag; nil: that
}

// Load is what the choice among several depends on. The zero value chooses the first.
type Load struct {
	Bound  func(index int) int // connections that are bound to an instance; nil: none
	Random uint64
}

// has tells whether an instance that is used has an attribute.
func (t *Table) has(i int, want cm.Attribute) bool {
	switch want {
	case cm.PreferStandby, cm.PreferRead:
		want = cm.Standby
	}
	return Fits(t.all[i].Attributes, want)
}

// Fits tells whether an instance with these attributes is what was asked for.
func Fits(a heartbeat.Attributes, want cm.Attribute) bool {
	switch want {
	case cm.ReadWrite:
		return !a.IsReadOnly()
	case cm.ReadOnly:
		return a.IsReadOnly()
	case cm.Primary:
		return !a.Has(heartbeat.InRecovery)
	case cm.Standby:
		return a.Has(heartbeat.InRecovery)
	}
	return true // any, and a preference is no condition
}

// behind says of a standby that it is too far behind for a request; "": it is not.
func (t *Table) behind(i int, own *heartbeat.LagLimit) string {
	limit, name := t.maxLag, "standby_max_lag"
	if own != nil {
		limit, name = *own, "LAG"
	}
	in := &t.all[i]
	if in.isPrimary() || !limit.Exceeded(in.Lag) {
		return ""
	}
	return fmt.Sprintf("it is a standby that is %s: %s is %s", in.Lag, name, limit.Text)
}

// Choose returns the index of an instance, -1 if there is none: of two by chance the one with fewer
// connections.
func (t *Table) Choose(r Request, l Load) int {
	switch found := t.offered(r); len(found) {
	case 0:
		return -1
	case 1:
		return found[0]
	default:
		return t.lighter(found, l)
	}
}

// offered are the instances that a request may get: several only where they are standbys, or read
// only, and as good as each other.
func (t *Table) offered(r Request) []int {
	all := func(want cm.Attribute, late bool) (found []int) {
		for i := range t.all {
			if t.isOffered(i) && !slices.Contains(r.Except, t.all[i].Number) && t.has(i, want) &&
				(late || t.behind(i, r.Lag) == "") {
				found = append(found, i)
			}
		}
		return found
	}
	switch want := r.Want; {
	case want == cm.PreferStandby, want == cm.PreferRead:
		if found := all(cm.Standby, false); len(found) > 0 {
			return found
		}
		return first(all(cm.Any, false)) // and no standby that is left out above
	case want == cm.Standby, want == cm.ReadOnly:
		return all(want, false)
	case want == cm.Any && r.Lag == nil:
		if found := all(want, false); len(found) > 0 {
			return first(found)
		}
		return first(all(want, true)) // the last one is better than none
	default:
		return first(all(want, false))
	}
}

func first(found []int) []int { return found[:min(1, len(found))] }

// lighter is the better one of two that chance has drawn. With the best one of all, whoever asks at
// the same time, here or at other conmgrs, would get the same one.
func (t *Table) lighter(found []int, l Load) int {
	n := uint64(len(found))
	a := uint64(uint32(l.Random)) % n
	b := (a + 1 + (l.Random>>32)%(n-1)) % n
	i, j := found[a], found[b]
	bound := 0
	if l.Bound != nil {
		bound = l.Bound(i) - l.Bound(j)
	}
	if bound > 0 || bound == 0 && nearer(t.all[j].RTT, t.all[i].RTT) {
		return j
	}
	return i
}

// nearer tells whether a round trip is that much shorter that it is no accident. Of neighbours the
// same one would be taken ever again otherwise, as long as connections are short.
func nearer(a, b time.Duration) bool { return a > 0 && a < b/2 && b-a >= time.Millisecond }

// UsedFor are the attributes for which an instance could be handed out now.
func (t *Table) UsedFor(index int) (used []string) {
	for _, a := range cm.Attributes {
		if slices.Contains(t.offered(Request{Want: a}), index) {
			used = append(used, string(a))
		}
	}
	return used
}

// NotUsed says why an instance is handed out for no attribute, or for none but any; "" if it is for
// others.
func (t *Table) NotUsed(index int) string {
	if why := cmp.Or(t.Verdicts[index].Why, t.whyDraining(index)); why != "" {
		return why
	}
	if why := t.behind(index, nil); why != "" || len(t.UsedFor(index)) > 0 {
		return why
	}
	return fmt.Sprintf("%s comes first", t.all[t.offered(Request{Want: cm.Primary})[0]].name())
}

// Describe tells of each instance why it is not the one, for the DETAIL of an error.
func (t *Table) Describe(r Request) string {
	var b strings.Builder
	for i := range t.all {
		in := &t.all[i]
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s is %s", in.name(), in.State)
		why := t.Verdicts[i].Why
		switch {
		case !in.established():
			why = ""
			if in.Detail != "" {
				fmt.Fprintf(&b, " (%s)", in.Detail)
			}
		case slices.Contains(r.Except, in.Number):
			why = "it is left out by EXCEPT"
		case why == "" && !t.has(i, r.Want):
			why = "it is not " + string(r.Want)
		case why == "":
			why = cmp.Or(t.whyDraining(i), t.behind(i, r.Lag))
		}
		if in.established() {
			b.WriteString(", " + in.Attributes.String())
		}
		if why != "" {
			b.WriteString(": " + why)
		}
	}
	return b.String()
}
