package route

// The choice among the instances that are used, and what is said of it. Pure: how many connections
// there are, and what is left to chance, go in.

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
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

// Choice is how an instance was chosen, for those who follow a route.
type Choice struct {
	candidates []int  // indexes; of those that fit
	drawn      [2]int // of several that are as good as each other
	bound      [2]int // connections that are bound to them
	why        string
}

// Choose returns the index of an instance, -1 if there is none: of two by chance the one with fewer
// connections.
func (t *Table) Choose(r Request, l Load) int {
	i, _ := t.Pick(r, l)
	return i
}

// Pick is Choose, and tells how.
func (t *Table) Pick(r Request, l Load) (int, Choice) {
	found, several := t.candidates(r)
	c := Choice{candidates: found}
	switch {
	case len(found) == 0:
		return -1, c
	case len(found) == 1:
		c.why = "it is the only candidate"
	case !several:
		c.why = "it has the lowest number"
	default:
		return t.lighter(&c, l), c
	}
	return found[0], c
}

// offered are the instances that a request may get: several only where they are standbys, or read
// only, and as good as each other.
func (t *Table) offered(r Request) []int {
	found, several := t.candidates(r)
	if !several {
		found = found[:min(1, len(found))]
	}
	return found
}

// candidates are the instances that fit a request. several: each of them may be given, else the first
// is.
func (t *Table) candidates(r Request) (found []int, several bool) {
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
			return found, true
		}
		return all(cm.Any, false), false // and no standby that is left out above
	case want == cm.Standby, want == cm.ReadOnly:
		return all(want, false), true
	case want == cm.Any && r.Lag == nil:
		if found := all(want, false); len(found) > 0 {
			return found, false
		}
		return all(want, true), false // the last one is better than none
	default:
		return all(want, false), false
	}
}

// lighter is the better one of two that chance has drawn. With the best one of all, whoever asks at
// the same time, here or at other conmgrs, would get the same one.
func (t *Table) lighter(c *Choice, l Load) int {
	n := uint64(len(c.candidates))
	a := uint64(uint32(l.Random)) % n
	b := (a + 1 + (l.Random>>32)%(n-1)) % n
	i, j := c.candidates[a], c.candidates[b]
	c.drawn = [2]int{i, j}
	if l.Bound != nil {
		c.bound = [2]int{l.Bound(i), l.Bound(j)}
	}
	switch bound := c.bound[0] - c.bound[1]; {
	case bound > 0:
		c.why = "fewer connections are bound to it"
		return j
	case bound < 0:
		c.why = "fewer connections are bound to it"
		return i
	case nearer(t.all[j].RTT, t.all[i].RTT):
		c.why = "its round trip is shorter"
		return j
	case nearer(t.all[i].RTT, t.all[j].RTT):
		c.why = "its round trip is shorter"
	default:
		c.why = "it was drawn first"
	}
	return i
}

// Explain tells who the candidates were, and why this one; "" if there was none.
func (t *Table) Explain(c Choice) string {
	if len(c.candidates) == 0 {
		return ""
	}
	number := func(i int) string { return strconv.Itoa(t.all[i].Number) }
	var all []string
	for _, i := range c.candidates {
		all = append(all, number(i))
	}
	text := "candidates: " + strings.Join(all, ", ")
	if c.drawn[0] != c.drawn[1] {
		var two []string
		for k, i := range c.drawn {
			two = append(two, fmt.Sprintf("%s (%d bound, round trip %s)", number(i), c.bound[k], t.all[i].RTT))
		}
		text += "; drawn: " + strings.Join(two, ", ")
	}
	return text + "; " + c.why
}

// nearer tells whether a round trip is that much shorter that it is no accident. Of neighbours the
// same one would be taken ever again otherwise, as long as connections are short.
func nearer(a, b time.Duration) bool { return a > 0 && a < b/2 && b-a >= time.Millisecond }

// Offers tells whether an instance is among those that a request may get.
func (t *Table) Offers(index int, r Request) bool { return slices.Contains(t.offered(r), index) }

// UsedFor are the attributes for which an instance could be handed out now.
func (t *Table) UsedFor(index int) (used []string) {
	for _, a := range cm.Attributes {
		if t.Offers(index, Request{Want: a}) {
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
