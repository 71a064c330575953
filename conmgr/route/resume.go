package route

// RESUME: whether a client that was bound before may be bound again, to the very server to which its
// session goes. Pure.

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Token is what a binding was: which server, and how much had become of it until then. It is opaque to
// clients.
type Token struct {
	Instance         int // number
	SystemIdentifier uint64
	PostmasterStart  int64
	Address          netip.Addr
	Port             int
	Generation       uint64
	KnownSince       uint64 // names the server's memory of this conmgr; 0: not told
	Run              uint64 // of the conmgr process that has bound
	Losses           uint64 // in that process
}

// tokenMark begins each: the form of what follows.
const tokenMark = "r1"

// String is what clients get.
func (t Token) String() string {
	s := fmt.Sprintf("%s/%d/%x/%x/%x/%x/%x/%x/%d/%s", tokenMark, t.Instance, t.SystemIdentifier, uint64(t.PostmasterStart),
		t.Generation, t.KnownSince, t.Run, t.Losses, t.Port, t.Address)
	if len(s) > cm.MaxResume || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '\'' || r == '"' }) {
		return "" // of the zone of an address
	}
	return s
}

// ParseToken takes one apart. ok is false if it is none.
func ParseToken(s string) (t Token, ok bool) {
	part := strings.Split(s, "/")
	if len(s) > cm.MaxResume || len(part) != 10 || part[0] != tokenMark {
		return Token{}, false
	}
	number := func(i, base, bits int) uint64 {
		n, err := strconv.ParseUint(part[i], base, bits)
		ok = ok && err == nil
		return n
	}
	ok = true
	t = Token{Instance: int(number(1, 10, 31)), SystemIdentifier: number(2, 16, 64), PostmasterStart: int64(number(3, 16, 64)),
		Generation: number(4, 16, 64), KnownSince: number(5, 16, 64), Run: number(6, 16, 64), Losses: number(7, 16, 64),
		Port: int(number(8, 10, 16))}
	var err error
	t.Address, err = netip.ParseAddr(part[9])
	return t, ok && err == nil
}

// Token of what is bound to an instance now, by a conmgr process.
func (t *Table) Token(i int, run uint64) Token {
	in := &t.all[i]
	return Token{Instance: in.Number, SystemIdentifier: in.SystemIdentifier, PostmasterStart: in.PostmasterStart,
		Address: in.Address, Port: in.Port, Generation: in.Generation, KnownSince: in.KnownSince, Run: run,
		Losses: in.Losses}
}

// Resumed is a verdict on a token. With Lost it is final; without, and without an index, it is to be
// asked for again with the next table.
type Resumed struct {
	Index int    // of the instance, which is the same server still; -1: none
	Of    int    // index of the entry that is meant; -1: none is
	Lost  string // why it is a loss
}

// Resume judges a token. late: whoever is there has had the time to say so since conmgr was started.
func (t *Table) Resume(k Token, run uint64, late bool) Resumed {
	of, waits := -1, false
	for i := range t.all {
		in := &t.all[i]
		switch {
		case in.Port != k.Port:
		case in.Address == k.Address || slices.Contains(in.Addresses, k.Address):
			if of < 0 || in.is(k) {
				of = i
			}
		case !in.Told && !in.Address.IsValid(): // its name may lead there
			waits = true
		}
	}
	if of < 0 {
		switch {
		case !waits:
			return Resumed{-1, -1, "it is not configured any more"}
		case late:
			return Resumed{-1, -1, notHeard}
		}
		return Resumed{Index: -1, Of: -1}
	}
	return t.ResumeOf(of, k, run, late)
}

// ResumeOf is Resume where it is known which entry is meant.
func (t *Table) ResumeOf(of int, k Token, run uint64, late bool) Resumed {
	in := &t.all[of]
	own := in
	if in.State == heartbeat.Duplicate { // another entry's heartbeats serve
		i := slices.IndexFunc(t.all, func(o Instance) bool { return o.State != heartbeat.Duplicate && o.is(k) })
		if i < 0 {
			return Resumed{-1, of, "another server is there"}
		}
		in, of = &t.all[i], i
	}
	why := t.unlike(in, of, own, k, run)
	switch {
	case why != "":
		return Resumed{-1, of, why}
	case in.Told:
		return Resumed{of, of, ""}
	case late:
		return Resumed{-1, of, notHeard}
	}
	return Resumed{-1, of, ""}
}

const notHeard = "nothing was heard of it since the Connection Manager was started"

// is tells whether it is the server of a token.
func (in *Instance) is(k Token) bool {
	return in.Told && in.SystemIdentifier == k.SystemIdentifier && in.PostmasterStart == k.PostmasterStart
}

// unlike tells why what is there is not what was bound to: another server, or it was lost meanwhile.
// own is the entry that was bound by, whose count of losses it is, and who knows whether the server
// has forgotten it, whichever serves now.
func (t *Table) unlike(in *Instance, i int, own *Instance, k Token, run uint64) string {
	const meanwhile = "it was lost meanwhile"
	switch v := t.Verdicts[i]; {
	case in.State == heartbeat.Lost:
		return meanwhile
	case !in.Told:
		return ""
	case in.SystemIdentifier != k.SystemIdentifier:
		return "another database cluster is there"
	case in.PostmasterStart != k.PostmasterStart:
		return "the server was restarted"
	case v.Void:
		return "superseded by " + v.By
	case own.Generation > k.Generation, run == k.Run && own.Losses != k.Losses:
		return meanwhile
	case run != k.Run && own.KnownSince != k.KnownSince && own.KnownSince != 0 && k.KnownSince != 0:
		return "the server has ended the sessions of this host meanwhile"
	}
	return ""
}
