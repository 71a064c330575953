package conmgr

// The board gathers what the instances' goroutines tell, and one goroutine (run) makes the routing table of it and tells applications of a
// loss. post never blocks: heartbeats do not wait for anything here.

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

type update struct {
	status
	fresh  bool
	losses uint64
	loss   *heartbeat.Loss // the last one
}

type board struct {
	conf     *Config
	log      *Logger
	registry *registry
	onTable  func(*table) // called by run after each new table
	destroy  *destroyer   // nil: destroy_sockets is off

	table atomic.Pointer[table]
	heard []atomic.Int64 // Mono of the last reception; 0: none

	mu      sync.Mutex
	pending []update
	wake    chan struct{}

	told []string // conflicts that were logged; owned by run
}

func newBoard(conf *Config, log *Logger, r *registry, onTable func(*table)) *board {
	b := &board{conf: conf, log: log, registry: r, onTable: onTable,
		heard: make([]atomic.Int64, len(conf.Instances)), pending: make([]update, len(conf.Instances)), wake: make(chan struct{}, 1)}
	entries := make([]entry, len(conf.Instances))
	for i := range entries {
		entries[i].cfg = &conf.Instances[i]
	}
	b.table.Store(newTable(entries))
	return b
}

// received records a reception, without a new table.
func (b *board) received(index int, t Mono) { b.heard[index].Store(int64(t)) }

// post leaves an instance's new status, and perhaps a loss. A status that run has not seen yet is replaced, a loss is never dropped.
func (b *board) post(index int, s status, loss *heartbeat.Loss) {
	b.mu.Lock()
	u := &b.pending[index]
	u.status, u.fresh = s, true
	if loss != nil {
		u.losses++
		u.loss = loss
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// run makes tables until stop is closed.
func (b *board) run(stop <-chan struct{}) {
	for {
		select {
		case <-b.wake:
			b.rebuild()
		case <-stop:
			return
		}
	}
}

// rebuild publishes a new table, and then ends the bindings that a loss has made void. In this order: an application that binds meanwhile
// either is found here, or finds the new table (registry.bind).
func (b *board) rebuild() {
	b.mu.Lock()
	updates := slices.Clone(b.pending)
	for i := range b.pending {
		b.pending[i] = update{}
	}
	b.mu.Unlock()

	entries := slices.Clone(b.table.Load().entries)
	for i := range updates {
		if u := &updates[i]; u.fresh {
			entries[i].status = u.status
			entries[i].losses += u.losses
		}
	}
	t := newTable(entries)
	b.table.Store(t)
	var told []member
	for i := range updates {
		if u := &updates[i]; u.loss != nil {
			e := &entries[i]
			b.destroy.lost(entries, i)
			list := b.registry.lose(i, fatal("57P01", lossText(e, u.loss), "", "Close the connection to the instance, and connect again."))
			told = append(told, list...)
			relayed := 0
			for _, c := range list {
				if c.place().relay {
					relayed++
				}
			}
			if n := len(list) - relayed; n > 0 {
				b.log.Log(LOG, "told %d application connections of the loss of instance %d (host %q)", n, e.cfg.Number, e.cfg.Name())
			}
			if relayed > 0 {
				b.log.Log(LOG, "reset %d relayed connections because of the loss of instance %d (host %q)", relayed, e.cfg.Number, e.cfg.Name())
			}
		}
	}
	finishAll(told)
	conflicts := t.conflicts()
	for _, c := range conflicts {
		if !slices.Contains(b.told, c) {
			b.log.Log(WARNING, "%s", c)
		}
	}
	b.told = conflicts
	if b.onTable != nil {
		b.onTable(t)
	}
}

// lossText is what the application's error message says.
func lossText(e *entry, loss *heartbeat.Loss) string {
	s := fmt.Sprintf("instance %d (host %q, address %s, port %d) is lost: %s", e.cfg.Number, e.cfg.Name(), e.address(), e.cfg.Port, loss)
	if loss.Reason != heartbeat.LossSilence {
		s += fmt.Sprintf(" (last heartbeat %d ms ago)", loss.Silence.Milliseconds())
	}
	return s
}
