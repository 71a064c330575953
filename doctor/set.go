package doctor

// Checks of all instances together.

import (
	"fmt"
	"strings"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// member is an instance that has told what it is.
type member struct {
	*Server
	*Told
}

func (m member) String() string { return fmt.Sprintf("instance %d (%s)", m.Number, m.Name) }

func (facts *Facts) members() (all []member) {
	for i := range facts.Servers {
		s := &facts.Servers[i]
		if p := facts.used(s); p != nil && p.Told != nil {
			all = append(all, member{s, p.Told})
		}
	}
	return all
}

// ours is the system identifier of most instances; of as many, that of the lowest number.
func ours(all []member) (id uint64) {
	n := map[uint64]int{}
	for _, m := range all {
		n[m.SystemIdentifier]++
	}
	for _, m := range all {
		if id == 0 || n[m.SystemIdentifier] > n[id] {
			id = m.SystemIdentifier
		}
	}
	return id
}

func (facts *Facts) cluster(f *findings) {
	all := facts.members()
	if len(all) == 0 {
		f.ok("no server has told of which cluster it is")
		return
	}
	id, good := ours(all), true
	for i, m := range all {
		if m.SystemIdentifier != id {
			good = false
			f.fail(fmt.Sprintf("Correct backend_host%d and backend_port%d. After pg_upgrade or the like, SELECT watchdog_succeeds(...) on the new "+
				"primary says whose place it has taken; cm_ctl forget is the way by hand.", m.Number, m.Number),
				"%s is of another cluster: its system identifier is %d, that of the others %d", m, m.SystemIdentifier, id)
		}
		for _, o := range all[:i] {
			if o.SystemIdentifier == m.SystemIdentifier && o.PostmasterStart == m.PostmasterStart {
				good = false
				f.warn("Take one of the two out of conmgr.conf.", "%s and %s are the same server", o, m)
			}
		}
	}
	if good {
		f.ok("all that answer are of the cluster with the system identifier %d", id)
	}
}

func (facts *Facts) primary(f *findings) {
	all := facts.members()
	id := ours(all)
	var primaries []member
	for _, m := range all {
		if m.SystemIdentifier == id && !m.Attributes.Has(heartbeat.InRecovery) {
			primaries = append(primaries, m)
		}
	}
	var distinct []member
	for _, m := range primaries {
		again := false
		for _, o := range distinct {
			again = again || o.PostmasterStart == m.PostmasterStart
		}
		if !again {
			distinct = append(distinct, m)
		}
	}
	switch len(distinct) {
	case 0:
		if len(all) > 0 {
			f.warn("Promote a standby, or start the primary.", "there is no primary among the instances that answer")
		}
	case 1:
		f.ok("%s is the primary, at timeline %d", distinct[0], distinct[0].Attributes.Timeline)
	default:
		unfenced(distinct, f)
	}
}

// unfenced tells of primaries that should not be there.
func unfenced(primaries []member, f *findings) {
	newest := primaries[0]
	for _, m := range primaries {
		if m.Attributes.Timeline > newest.Attributes.Timeline {
			newest = m
		}
	}
	var old []string
	for _, m := range primaries {
		if m.Attributes.Timeline < newest.Attributes.Timeline {
			old = append(old, fmt.Sprintf("%s at timeline %d", m, m.Attributes.Timeline))
		}
	}
	const advice = "Stop it (pg_ctl stop -m immediate) or fence it: whoever connects to it directly writes what will be lost. Then pg_rewind, and start it " +
		"as a standby. conmgr sends nobody there."
	if len(old) == 0 {
		var names []string
		for _, m := range primaries {
			names = append(names, m.String())
		}
		f.fail("Find out which one is right, and stop the other ones. "+advice, "there are several primaries of timeline %d: %s",
			newest.Attributes.Timeline, strings.Join(names, ", "))
		return
	}
	f.fail(advice, "an old primary is not fenced: %s; the primary is %s, at timeline %d", strings.Join(old, ", "), newest, newest.Attributes.Timeline)
}
