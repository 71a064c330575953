package conmgr

// Tests of the registry's lock.

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// place is a member that does nothing.
type place struct{ seat }

func (*place) end([]byte)       {}
func (*place) finish(time.Time) {}

// An application that binds at the moment of a loss is either told of it, or gets another instance.
// The table is read, and the choice made, under the lock that a loss takes after it has published
// its table.
func TestBindReadsTheTableUnderTheLock(t *testing.T) {
	r := newRegistry(1, 10)
	s := &place{seat{bound: -1}}
	r.add(s)
	entries := []entry{{cfg: &conf.Instance{Port: 1}, status: status{State: hb.Established, Known: true, SystemIdentifier: 7, Attributes: hb.Attributes{Timeline: 1}}}}
	tab := newTable(entries, route.Known{SystemIdentifier: 7, Timeline: 1}, true, route.Rules{}, time.Now())
	locked := func(what string) {
		if r.mu.TryLock() {
			r.mu.Unlock()
			t.Errorf("%s without the lock: a loss at this moment would be missed", what)
		}
	}
	_, i, ok := r.bind(s, "primary", func() *table {
		locked("the table is read")
		return tab
	}, func(tab *table) int {
		locked("the instance is chosen")
		return tab.Choose(cm.Primary, nil)
	})
	if i != 0 || !ok || s.bound != 0 {
		t.Errorf("bound to %d", i)
	}
}

func TestReservedPlaces(t *testing.T) {
	r := newRegistry(1, 2)
	r.share = 2
	add := func(s seat) admission { s.bound = -1; return r.add(&place{s}) }
	foreign := seat{owner: owner{uid: uint32(os.Geteuid()) + 1, known: true}}
	elsewhere := seat{owner: owner{address: netip.MustParseAddr("192.0.2.1")}}
	own := seat{owner: owner{uid: uint32(os.Geteuid()), known: true}}
	byUnix := own
	byUnix.local = &unix.Ucred{Uid: uint32(os.Geteuid())}
	rootByUnix := seat{owner: owner{known: true}, local: &unix.Ucred{}}
	foreignByUnix := seat{owner: foreign.owner, local: &unix.Ucred{}}
	for i, x := range []struct {
		s    seat
		want admission
	}{{foreign, admitted}, {foreign, admitted}, {foreign, overAll}, {foreignByUnix, overAll}, {elsewhere, overAll},
		{own, overAll},
		{byUnix, admitted}, {rootByUnix, admitted}, {byUnix, admitted}, {byUnix, overAll}, {rootByUnix, overAll}} {
		if got := add(x.s); got != x.want {
			t.Errorf("%d: %s: %d, want %d", i, &x.s, got, x.want)
		}
	}
}
