package route

// The table: a verdict on each instance. Pure.

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Rules are what conmgr.conf says of the choice.
type Rules struct {
	// StandbyGrace is how long a standby of an older timeline than the highest is offered, from
	// when that became known. 0: not at all; negative: for ever.
	StandbyGrace time.Duration
	MaxLag       heartbeat.LagLimit // of a standby; a Request may have another one
}

// Verdict on an instance.
type Verdict struct {
	Why        string // it is not used; "": it is, for what it can do
	Void       bool   // nothing may stay bound to it: what is written there is lost
	Superseded bool   // of the void ones: proved by a newer timeline or by a declared succession
	By         string // what has made it void, for people
}

// Table is never changed once it is made.
type Table struct {
	Known    Known
	Verdicts []Verdict // by index of the instance
	Primary  int       // index of the primary in use, -1: none
	Next     time.Time // when a verdict changes though nothing happens; zero: never

	all     []Instance
	settled bool // see Known.Learn
	maxLag  heartbeat.LagLimit
}

// Decide judges the instances by what is known. It is called for each change.
func Decide(known Known, all []Instance, settled bool, rules Rules, now time.Time) *Table {
	t := &Table{Known: known, all: all, settled: settled || allTold(all), Verdicts: make([]Verdict, len(all)),
		Primary: -1, maxLag: rules.MaxLag}
	for i := range all {
		v := t.judge(&all[i], rules, now)
		if all[i].State == heartbeat.Lost {
			v.Void, v.Superseded = false, false // whoever was bound has been told
		}
		t.Verdicts[i] = v
		if v.Why == "" && all[i].isPrimary() && t.Primary < 0 {
			t.Primary = i
		}
	}
	return t
}

// judge says why an instance is not used. The order is that of weight: what stays true while it is
// not connected comes first.
func (t *Table) judge(in *Instance, rules Rules, now time.Time) Verdict {
	v := t.superseded(in)
	switch {
	case !in.established():
		v.Why = "it is " + in.State.String()
		if in.Detail != "" {
			v.Why += ": " + in.Detail
		}
	case v.Why != "":
	case t.Known.SystemIdentifier == 0 && !t.settled:
		v.Why = "it is not known yet which database cluster the others belong to"
	case t.Known.SystemIdentifier == 0:
		v.Why = "which database cluster the set is cannot be told: each has been succeeded by another one"
	case in.Attributes.Has(heartbeat.ShuttingDown):
		v.Why = "it is shutting down"
	case in.isPrimary() && in.Attributes.Timeline == 0 && t.Known.Timeline > 0:
		v.Why = "its timeline is not known yet"
	case !in.isPrimary() && in.Attributes.Timeline > 0 && in.Attributes.Timeline < t.Known.Timeline &&
		rules.StandbyGrace >= 0:
		if end := t.Known.outdatedSince(in.Attributes.Timeline).Add(rules.StandbyGrace); now.Before(end) {
			if t.Next.IsZero() || end.Before(t.Next) {
				t.Next = end
			}
		} else {
			v.Why = fmt.Sprintf("it is a standby of timeline %d: %s, for longer than standby_timeline_grace",
				in.Attributes.Timeline, t.newer())
		}
	}
	return v
}

func (t *Table) newer() string {
	return fmt.Sprintf("a newer timeline is known, %d, seen at %s", t.Known.Timeline, t.Known.At)
}

// superseded judges an instance by what it said last, connected or not.
func (t *Table) superseded(in *Instance) (v Verdict) {
	k := &t.Known
	switch {
	case !in.Told || k.SystemIdentifier == 0:
	case in.SystemIdentifier != k.SystemIdentifier:
		v.Void = true
		v.Why = fmt.Sprintf("it belongs to another database cluster: its system identifier is %d, that of the set is %d", in.SystemIdentifier, k.SystemIdentifier)
		v.By = fmt.Sprintf("system identifier %d", k.SystemIdentifier)
		if k.succeeded(in.SystemIdentifier) {
			v.Superseded = true
			v.Why += ", which has succeeded it"
			v.By = fmt.Sprintf("instance %d, system identifier %d", k.At.Instance, k.SystemIdentifier)
		}
	case !in.isPrimary() || in.Attributes.Timeline == 0:
	case in.Attributes.Timeline < k.Timeline:
		v.Void, v.Superseded = true, true
		v.Why = fmt.Sprintf("it is a primary of timeline %d: %s", in.Attributes.Timeline, t.newer())
		v.By = fmt.Sprintf("instance %d, timeline %d", k.At.Instance, k.Timeline)
	case k.Held && !t.holds(in):
		v.Void = true
		v.Why = fmt.Sprintf("it is a primary of timeline %d, which %s holds", in.Attributes.Timeline, k.At)
		v.By = fmt.Sprintf("instance %d, which holds timeline %d", k.At.Instance, k.Timeline)
	}
	return v
}

// holds: Learn has noted who does, with the start of its postmaster.
func (t *Table) holds(in *Instance) bool { return t.Known.At.PostmasterStart == in.PostmasterStart }

func (k *Known) succeeded(system uint64) bool {
	return slices.ContainsFunc(k.Takeovers, func(o Takeover) bool { return o.From == system })
}

// Conflicts describes what an administrator should look into, one text each.
func (t *Table) Conflicts() (out []string) {
	var primaries, systems []string
	for i := range t.all {
		in := &t.all[i]
		if !in.heard() {
			continue
		}
		if in.isPrimary() && (t.Known.SystemIdentifier == 0 || in.SystemIdentifier == t.Known.SystemIdentifier) {
			primaries = append(primaries, fmt.Sprintf("instance %d (timeline %d)", in.Number, in.Attributes.Timeline))
		}
		systems = append(systems, fmt.Sprintf("instance %d (system identifier %d)", in.Number, in.SystemIdentifier))
		if v := t.Verdicts[i]; t.Known.SystemIdentifier != 0 && in.SystemIdentifier != t.Known.SystemIdentifier {
			out = append(out, fmt.Sprintf("%s is not used: %s", in.name(), v.Why))
		}
	}
	switch {
	case t.Known.SystemIdentifier == 0 && t.settled && len(systems) > 1:
		out = append(out, "the instances belong to database clusters each of which has been succeeded by another one: "+
			strings.Join(systems, ", ")+"; none is used")
	case len(primaries) > 1 && t.Primary >= 0:
		out = append(out, fmt.Sprintf("more than one instance is a primary: %s; instance %d is used",
			strings.Join(primaries, ", "), t.all[t.Primary].Number))
	case len(primaries) > 1:
		out = append(out, fmt.Sprintf("more than one instance is a primary: %s; none of them is used",
			strings.Join(primaries, ", ")))
	}
	return out
}
