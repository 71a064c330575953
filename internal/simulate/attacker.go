package simulate

// Somebody on the way, who hears everything, changes some of it, and connects from the hosts' own
// addresses with what he has heard or made up. He has no key. By random numbers of his own.

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
)

// attacker is he.
type attacker struct {
	rare
	w     *world
	heard [2][][]byte // to conmgrs, and to watchdogs
	tried int
}

// mostHeard is how many messages he remembers of each direction.
const mostHeard = 400

// RunAttacked is Run with keys, if proved says so, and with an attacker.
func RunAttacked(seed uint64, length time.Duration, keep, proved bool) Result {
	w := newWorld(seed, keep)
	w.attacker = &attacker{rare: rare{rand.New(rand.NewPCG(seed, 79))}, w: w}
	if proved {
		w.keys = map[string]*proof.Key{}
	}
	w.people()
	w.rarer(seed)
	w.applications()
	w.troubles()
	w.attacker.connects()
	return w.run(seed, length)
}

// key is that of a client host, nil if there are none.
func (w *world) key(name string) *proof.Key {
	if w.keys == nil {
		return nil
	}
	if w.keys[name] == nil {
		id, err := proof.ParseKeyID(name)
		if err != nil {
			panic(err)
		}
		w.keys[name] = proof.NewKey(id, proof.Secret{1, byte(len(w.keys))})
	}
	return w.keys[name]
}

// noKeys is what a worker goes by that cannot read its keys.
var noKeys = &watchdog.Access{Authentication: watchdog.Require, NoKeys: true}

// access is what all servers are set to: they require a proof.
func (w *world) access(d *database) *watchdog.Access {
	if w.keys == nil {
		return nil
	}
	if d.keyless > w.now {
		return noKeys
	}
	if w.required == nil {
		text := ""
		for i := range 4 {
			k := w.key("client" + string(rune('1'+i)))
			text += proof.Line(k.ID, proof.Secret{1, byte(i)}) + "\n"
		}
		keys, err := proof.ParseFile("keys", text)
		if err != nil {
			panic(err)
		}
		w.required = &watchdog.Access{Authentication: watchdog.Require, Keys: keys}
	}
	return w.required
}

// nonce is as random as everything here.
func (w *world) nonce() (n proof.Nonce) {
	w.nonces++
	return proof.Nonce{byte(w.nonces), byte(w.nonces >> 8), byte(w.nonces >> 16)}
}

// passesOn is what becomes of a message on its way.
func (w *world) passesOn(e *endpoint, b []byte) []byte {
	a := w.attacker
	if a == nil {
		return b
	}
	direction := 0
	if e.remote.Port() == watchdogPort {
		direction = 1
	}
	heard := &a.heard[direction]
	if len(*heard) < mostHeard {
		*heard = append(*heard, slices.Clone(b))
	} else {
		(*heard)[a.IntN(mostHeard)] = slices.Clone(b)
	}
	if !a.chance(1.0 / 400) {
		return b
	}
	a.tried++
	// It may show by the next message only: what he keeps back, for example, is as if the way was
	// cut.
	longest := time.Duration(0)
	for _, c := range w.clients {
		for _, m := range c.conmgrs {
			longest = max(longest, m.set.interval)
		}
	}
	w.disturb(mark{from: w.now, to: w.now.Add(longest), hard: true, half: true, what: "somebody on the way changes a message"})
	return a.changes(direction, b)
}

// changes is something else than b.
func (a *attacker) changes(direction int, b []byte) []byte {
	b = slices.Clone(b)
	switch a.IntN(6) {
	case 0:
		// Of a length that was changed, a receiver learns when it has all: that is a cut of many
		// BEATs.
		b[2+a.IntN(len(b)-2)] ^= 1 << a.IntN(8)
		return b
	case 1:
		return append(slices.Clone(b), b...)
	case 2:
		return nil
	case 3:
		return b[:a.IntN(len(b))]
	case 4:
		return a.heard[direction][a.IntN(len(a.heard[direction]))]
	}
	if direction == 1 {
		return a.asConmgr(2)
	}
	return a.asWatchdog()
}

// asWatchdog is a message that he makes up.
func (a *attacker) asWatchdog() []byte {
	switch a.IntN(4) {
	case 0:
		return heartbeat.Welcome{Version: uint16(1 + a.IntN(2)), SystemIdentifier: 1, PostmasterStart: int64(a.IntN(3))}.Append(nil)
	case 1:
		return heartbeat.Goodbye{Code: heartbeat.GoodbyeCode(16 + a.IntN(2)), Text: "bye"}.Append(nil)
	case 2:
		return heartbeat.Refused{Code: heartbeat.RefusedCode(1 + a.IntN(7)), Text: "no"}.Append(nil)
	}
	return heartbeat.WatchdogBeat{Sequence: 9, Attributes: heartbeat.Attributes{Flags: heartbeat.InRecovery, Timeline: 9}}.Append(nil, 2)
}

// asConmgr as well.
func (a *attacker) asConmgr(version uint16) []byte {
	if a.chance(0.3) {
		return heartbeat.ConmgrBeat{Sequence: 9}.Append(nil, version)
	}
	return heartbeat.ConmgrGoodbye{Goodbye: heartbeat.Goodbye{Code: heartbeat.GoodbyeCode(1 + a.IntN(3)), Text: "bye"},
		Generation: uint64(a.IntN(4)), Attempt: uint32(a.IntN(20))}.Append(nil, version)
}

// hello is one with the id of a conmgr, or with one of his own.
func (a *attacker) hello(m *conmgr, version uint16) []byte {
	h := heartbeat.Hello{MinVersion: 1, MaxVersion: version, ID: heartbeat.InstanceID(m.id, a.IntN(2)), Boot: m.c.h.boot,
		Generation: uint64(a.IntN(3)), Interval: m.set.interval, Timeout: m.set.timeout}
	if version >= 2 {
		h.Attempt = uint32(1 + a.IntN(1000))
	}
	if a.chance(0.3) {
		h.ID[0]++
	}
	return h.Append(nil)
}

// connects from the address of a client host, now and then.
func (a *attacker) connects() {
	w := a.w
	w.in(a.between(time.Second, 20*time.Second), func() {
		a.connects()
		c, d := w.clients[a.IntN(len(w.clients))], w.databases[a.IntN(len(w.databases))]
		if !c.h.up {
			return
		}
		p := &process{h: c.h, planned: never}
		var e *endpoint
		said := false
		p.run = func(time.Duration, bool) {
			if e != nil && e.established && !said {
				said = true
				a.says(c, e)
			}
		}
		e = c.h.connect(netip.AddrPortFrom(d.h.addr, watchdogPort), p)
		w.in(a.between(time.Second, 10*time.Second), func() {
			p.dead = true
			if !e.gone {
				e.close()
			}
		})
	})
}

// says tries his luck.
func (a *attacker) says(c *client, e *endpoint) {
	a.tried++
	version := uint16(1 + a.IntN(2))
	if heard := a.heard[1]; a.chance(0.5) && len(heard) > 0 {
		for range 1 + a.IntN(4) {
			e.push(segment{payload: slices.Clone(heard[a.IntN(len(heard))])})
		}
		return
	}
	e.push(segment{payload: a.hello(c.conmgrs[a.IntN(len(c.conmgrs))], version)})
	for range a.IntN(3) {
		e.push(segment{payload: a.asConmgr(version)})
	}
}
