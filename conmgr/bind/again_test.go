package bind

// Tests of on_role_change, and of what is told to those who resume.

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	hb "github.com/pgwatchdog/watchdog/heartbeat"
)

// roles are the attributes of the tests: "p" primary, "s" standby, "r" read-only primary.
var roles = map[string]hb.Attributes{"p": {Timeline: 1}, "s": {Timeline: 1, Flags: hb.InRecovery},
	"r": {Timeline: 1, Flags: hb.ReadOnly}}

func boardWith(t *testing.T, text string) *Board {
	c, diags := conf.Parse("conmgr.conf", []byte(text+"\nbackend_hostaddr0 = 127.0.0.1\nbackend_port0 = 5432"))
	if c == nil {
		t.Fatal(diags)
	}
	return NewBoard(conf.NewCurrent(c), nil, NewRegistry(1, 100), nil, route.Known{})
}

func (b *Board) is(role string) *Table {
	b.Post(0, Status{State: hb.Established, Known: true, Attributes: roles[role], SystemIdentifier: 7, PostmasterStart: 1}, nil)
	b.rebuild()
	return b.Table.Load()
}

// Only those are told whose attribute does not fit any more, and only those who have asked for it, or
// who are to be reset.
func TestRoleChange(t *testing.T) {
	all := []cm.Attribute{cm.Any, cm.ReadWrite, cm.ReadOnly, cm.Primary, cm.Standby, cm.PreferStandby, cm.PreferRead}
	for _, c := range []struct{ before, now, concerns string }{
		{"p", "p", ""}, {"p", "s", "read-write primary"}, {"s", "p", "read-only standby"}, {"p", "r", "read-write"},
		{"r", "p", "read-only"}, {"s", "r", "standby"}, {"r", "s", "primary"}, {"s", "s", ""},
	} {
		for _, policy := range []string{"ignore", "notify", "reset"} {
			b := boardWith(t, "on_role_change = "+policy)
			b.is(c.before)
			var members []*place
			for i, a := range all {
				for _, asked := range []bool{true, false} {
					m := &place{Seat: Seat{Bound: -1, Notified: asked, Relay: !asked && i%2 == 0}}
					b.registry.Add(m)
					b.registry.Bind(m, string(a), b.Table.Load, func(*Table, Load) int { return 0 })
					members = append(members, m)
				}
			}
			attributes := b.is(c.now).Entries[0].Attributes.String()
			for _, m := range members {
				concerned := strings.Contains(" "+c.concerns+" ", " "+m.target+" ")
				told := fmt.Sprint(m.noted)
				if want := concerned && policy == "notify" && m.Notified; want != strings.Contains(told,
					"conmgr.notice\x00role "+attributes+"\x00") || !want && len(m.noted) > 0 {
					t.Errorf("%s to %s, %s: %s was told %q", c.before, c.now, policy, m.target, told)
				}
				if want := concerned && policy == "reset"; want != (m.ended != "") || want != (m.Bound < 0) || want &&
					!strings.Contains(m.ended, "C57P01\x00Minstance 0 (host \"127.0.0.1\", address 127.0.0.1, port 5432) is lost: its "+
						"role has changed: it is "+attributes+" now\x00") {
					t.Errorf("%s to %s, %s: %s was ended with %q", c.before, c.now, policy, m.target, m.ended)
				}
			}
		}
	}
}

// The end of a drain does not take back what was told because of a role: who has the wrong one is to
// leave all the same.
func TestRoleOutlivesADrain(t *testing.T) {
	for policy, want := range map[string][]string{"ignore": {cm.NoticeDraining, cm.NoticeServing},
		"notify": {"role standby,read-only", cm.NoticeDraining, "role standby,read-only"}} {
		b := boardWith(t, "on_role_change = "+policy)
		b.is("p")
		bind := func(want cm.Attribute) *place {
			m := &place{Seat: Seat{Bound: -1, Notified: true}}
			b.registry.Add(m)
			b.registry.Bind(m, string(want), b.Table.Load, func(*Table, Load) int { return 0 })
			return m
		}
		wrong, right := bind(cm.ReadWrite), bind(cm.Any)
		b.is("s")
		for _, on := range []bool{true, false} {
			b.drain(drainRequest{0, on, make(chan struct{})})
		}
		wrong.told(t, policy, want...)
		right.told(t, policy+", the attribute fits", cm.NoticeDraining, cm.NoticeServing)
	}
}

func TestResumeByPolicy(t *testing.T) {
	for _, c := range []struct {
		policy, role string
		want         cm.Attribute
		index        int
		notice, lost string
	}{
		{"ignore", "p", cm.Primary, 0, "", ""},
		{"ignore", "s", cm.Primary, 0, "", ""},
		{"notify", "p", cm.ReadWrite, 0, "", ""},
		{"notify", "s", cm.ReadWrite, 0, "role standby,read-only", ""},
		{"reset", "p", cm.ReadWrite, 0, "", ""},
		{"reset", "r", cm.ReadWrite, Settled, "", "its role has changed: it is primary,read-only now"},
	} {
		b := boardWith(t, "on_role_change = "+c.policy)
		k, ok := route.ParseToken(b.Token(b.is("p"), 0))
		if !ok {
			t.Fatal("no token")
		}
		i, notice, lost := b.Resume(b.is(c.role), k, c.want, time.Now())
		if i != c.index || notice != c.notice || (lost != nil) != (c.lost != "") || !strings.Contains(string(lost), c.lost) {
			t.Errorf("%+v: %d, %q, %q", c, i, notice, lost)
		}
	}
}
