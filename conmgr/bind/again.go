package bind

// What becomes of those who are bound, or were, when their instance is not what they asked for, or when
// conmgr was away: on_role_change, and RESUME. The board's goroutine tells of roles; Resume is called
// with the registry's lock.

import (
	"fmt"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/route"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// tellRoles tells those whose instance has another role by a table, which is published, and not the
// attribute any more that they asked for. It returns those that were ended, for finishAll.
func (b *Board) tellRoles(before, now *Table) (ended []Member) {
	for i := range now.Entries {
		was, is := &before.Entries[i], &now.Entries[i]
		if b.conf.Load().OnRoleChange == conf.RoleIgnored || !was.Known || !is.Known || is.State == heartbeat.Lost {
			continue
		}
		unfit := func(s *Seat) bool {
			want := cm.Attribute(s.target)
			return route.Fits(was.Attributes, want) && !route.Fits(is.Attributes, want)
		}
		e := event.RoleTold{Instance: event.Of(is.Config), Now: is.Attributes.String()}
		if b.conf.Load().OnRoleChange == conf.RoleReset {
			list := b.registry.endSome(i, lossMessage(is.roleText()), unfit)
			e.Ended, ended = len(list), append(ended, list...)
		} else {
			e.Told = b.registry.notifySome(i, roleNotice(is), unfit)
		}
		if e.Told+e.Ended > 0 {
			b.events.Emit(e)
		}
	}
	return ended
}

func (e *Entry) roleText() string {
	return e.lostText("its role has changed: it is " + e.Attributes.String() + " now")
}

func roleNotice(e *Entry) string { return cm.NoticeRole + " " + e.Attributes.String() }

// lossMessage is what ends a connection whose instance is lost.
func lossMessage(text string) []byte {
	return backend.Fatal(cm.AdminShutdown, text, "", "Close the connection to the instance, and connect again.")
}

// Token is what a connection that is bound to an instance of a table resumes by.
func (b *Board) Token(t *Table, i int) string { return t.Token(i, b.run).String() }

// ResumeUntil is until when who resumes waits for an instance that was not reached yet.
func (b *Board) ResumeUntil() time.Time { return b.started.Add(b.conf.Load().HeartbeatTimeout) }

// hasWaited tells whether whoever is there has had the time to say so.
func (b *Board) hasWaited(now time.Time) bool { return !now.Before(b.ResumeUntil()) }

// Was is what a binding was.
type Was = route.Token

// Rebind looks what has become of those that were bound to instance i by the process before, as was
// says. They are bound to the entry that serves now, if it is the same server; why is a loss
// otherwise. Without either the instance is not known yet. Called by a relay's goroutine.
func (b *Board) Rebind(all []Member, i int, was Was, now time.Time) (bound bool, why string) {
	b.registry.move(all, i, func() int {
		r := b.Table.Load().ResumeOf(i, was, b.run, b.hasWaited(now))
		why, bound = r.Lost, r.Index >= 0
		return r.Index
	})
	return bound, why
}

// NotResumed ends what was bound to instance i by the process before, as it is lost. With
// notify_loss = off it only reports.
func (b *Board) NotResumed(i int, all []Member, why string) {
	e := &b.Table.Load().Entries[i]
	if !b.conf.Load().NotifyLoss {
		b.onlyReport(e, 0, len(all), false)
		return
	}
	b.registry.tell(all, lossMessage(e.lostText(why)))
	b.events.Emit(event.RelaysNotResumed{Instance: event.Of(e.Config), N: len(all), Why: why})
}

// Resume judges the token of a connection that asks for an attribute. With an index it is bound again;
// notice, if it is not empty, is what it is told then. lost is the last message otherwise; without one
// the instance is not known yet.
func (b *Board) Resume(t *Table, k route.Token, want cm.Attribute, now time.Time) (index int, notice string, lost []byte) {
	r := t.Resume(k, b.run, b.hasWaited(now))
	if i := t.IndexOf(k.Instance); r.Lost != "" && i >= 0 && !b.conf.Load().NotifyLoss {
		b.onlyReport(&t.Entries[i], 1, 0, false)
		return i, "", nil
	}
	if r.Lost != "" {
		text := fmt.Sprintf("instance %d (address %s, port %d) is lost: %s", k.Instance, k.Address, k.Port, r.Lost)
		if r.Of >= 0 {
			text = t.Entries[r.Of].lostText(r.Lost)
		}
		return Settled, "", lossMessage(text)
	}
	if r.Index < 0 {
		return -1, "", nil
	}
	e := &t.Entries[r.Index]
	unfit := !route.Fits(e.Attributes, want)
	switch {
	case unfit && b.conf.Load().OnRoleChange == conf.RoleReset:
		return Settled, "", lossMessage(e.roleText())
	case unfit && b.conf.Load().OnRoleChange == conf.RoleNotified:
		return r.Index, roleNotice(e), nil
	}
	return r.Index, "", nil
}
