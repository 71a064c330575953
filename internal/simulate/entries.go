package simulate

// The entries of a conmgr, of which two may lead to one server: then one of them serves it, as
// conmgr/watch has it.

import (
	"maps"
	"slices"

	"github.com/pgwatchdog/watchdog/heartbeat"
	end "github.com/pgwatchdog/watchdog/heartbeat/instance"
)

// entries are where the conmgr's entries lead: to each database, and to some once more.
func (m *conmgr) entries() []*database {
	return append(slices.Clone(m.c.w.databases), m.again...)
}

// twice makes a second entry lead to a database. The process starts anew.
func (m *conmgr) twice(d *database) {
	m.again = append(m.again, d)
	m.running, m.p.dead = false, true
	m.start()
}

// instance is the entry that serves a database, or the first one that leads there.
func (m *conmgr) instance(d *database) (found *instance) {
	for _, in := range m.instances {
		if in.d == d && (found == nil || found.duplicate && !in.duplicate) {
			found = in
		}
	}
	return found
}

// id is the one by which a server knows the entry.
func (in *instance) id() heartbeat.ID {
	if in.renamed {
		return heartbeat.InstanceID(in.m.spare(), in.index)
	}
	return heartbeat.InstanceID(in.m.id, in.index)
}

// entry is the one that a server knows by an id.
func (m *conmgr) entry(id heartbeat.ID) *instance {
	for _, in := range m.instances {
		if m.running && in.id() == id {
			return in
		}
	}
	return nil
}

// has tells whether an id is that of one of its entries, be it that no process runs.
func (m *conmgr) has(id heartbeat.ID) bool {
	for _, in := range m.instances {
		if in.id() == id {
			return true
		}
	}
	return false
}

// claim makes an entry serve a server, unless another one does.
func (in *instance) claim(a *end.Action) end.Holder {
	m := in.m
	h, taken := m.servers[a.Server]
	if !taken || h.Index != in.index {
		in.release()
	}
	switch {
	case !taken:
		h = end.Holder{Index: in.index, Number: in.index, Local: a.Local, Since: m.c.w.now}
	case h.Index == in.index:
		h.Local = a.Local
	}
	m.servers[a.Server] = h
	if in.duplicate = h.Index != in.index; in.duplicate {
		m.c.w.note("%s: conmgr %x: entry %d leads to the server of entry %d", m.c.h.name, m.id[:2], in.index, h.Index)
		m.resume(in, h.Index) // who is bound by this entry is bound by that one, if the server knows this one as before
	}
	return h
}

// release lets a server go. Duplicates look at once.
func (in *instance) release() {
	m := in.m
	before := len(m.servers)
	maps.DeleteFunc(m.servers, func(_ end.Server, h end.Holder) bool { return h.Index == in.index })
	if len(m.servers) == before {
		return
	}
	for _, o := range m.instances {
		if o != in {
			o.freed = true
		}
	}
	m.p.wake()
}
