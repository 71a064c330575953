package watchdog

// What a conmgr costs this process, in memory that stays.

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// footprint is the memory of a conmgr, of many, each with a key of its own if it has one.
func footprint(t *testing.T, n int, keyed bool) float64 {
	t.Helper()
	keys := make([]*proof.Key, n)
	var text strings.Builder
	for i := range keys {
		keys[i] = testKey(fmt.Sprintf("client%d", i), fmt.Sprintf("%032d", i))
		text.WriteString(proof.Line(keys[i].ID, testSecret(fmt.Sprintf("%032d", i))) + "\n")
	}
	store, file := NewMemory(n*9/8), text.String()
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := heap()
	settings := Settings{TerminateOnClose: true, MaxTimeout: time.Hour}
	if keyed {
		all, err := proof.ParseFile("keys", file)
		if err != nil {
			t.Fatal(err)
		}
		settings.Access = &Access{Authentication: Require, Keys: all}
	}
	table, _ := NewTable(Server{Nonce: nonces()}, settings, store, at(0))
	for i := range n {
		c := Conn(i)
		table.Step(at(0), Event{Kind: Opened, Conn: c, From: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 4000)})
		h := heartbeat.Hello{MinVersion: 1, MaxVersion: 2, ID: heartbeat.ID{byte(i), byte(i >> 8), 1}, Boot: heartbeat.ID{byte(i), byte(i >> 8)},
			Interval: time.Second, Timeout: 3 * time.Second, Attempt: 1}
		if keyed {
			h.MinVersion, h.KeyID, h.Nonce = 2, keys[i].ID, proof.Nonce{byte(i)}
		}
		hello := h.Append(nil)
		for _, a := range table.Step(at(0), Event{Kind: Bytes, Conn: c, Data: hello}) {
			if f, _, err := heartbeat.Next(a.Data); a.Kind == Send && err == nil && f.Type == heartbeat.TypeChallenge {
				shake := proof.NewHandshake(keys[i], proof.TranscriptOf(hello, f.Whole))
				table.Step(at(0), Event{Kind: Bytes, Conn: c, Data: heartbeat.AppendResponse(nil, shake.Response())})
				break
			}
		}
	}
	if len(table.peers) != n {
		t.Fatalf("%d conmgrs of %d", len(table.peers), n)
	}
	each := (heap() - before) / float64(n)
	runtime.KeepAlive(table)
	runtime.KeepAlive(file)
	runtime.KeepAlive(keys)
	return each
}

// TestFootprint: a key costs 48 bytes, and what is known of a connection with one 64. (Before all of
// it was made small, a conmgr took 1011 bytes without a key and 1290 with one.)
func TestFootprint(t *testing.T) {
	const n, most, mostPlain = 10_000, 120, 800
	plain, keyed := footprint(t, n, false), footprint(t, n, true)
	t.Logf("%.0f bytes a conmgr without a key, %.0f with one", plain, keyed)
	if plain > mostPlain {
		t.Errorf("without a key that is more than %d", mostPlain)
	}
	if keyed-plain > most {
		t.Errorf("that is %.0f more, and not %d at most", keyed-plain, most)
	}
}
