package watchdog

// What peers can make the log say. Pure; time is the test's.

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

func (l *logLimiter) tick(ms int64) { l.report(at(ms).Mono) }

func TestLogAllowance(t *testing.T) {
	host := newFakeHost()
	l := newLogLimiter(host.Log, 4)
	for i := range int64(1000) { // 10 s of one address; another one says something now and then
		l.routine(at(i*10), addrA, Line{Message: "noise"})
		if i%400 == 0 {
			l.routine(at(i*10), host2, Line{Message: "sense"})
		}
		l.tick(i * 10)
	}
	if n := host.count("noise"); n != linesAtOnce+3 { // and one every three seconds
		t.Errorf("%d lines of noise", n)
	}
	if n := host.count("sense"); n != 3 {
		t.Errorf("%d lines of the other address, want 3", n)
	}
	// The count comes though nothing else follows.
	l.tick(10_199)
	if host.count("left out") != 0 {
		t.Errorf("too early:\n%s", host.log())
	}
	if l.reportAt > at(11_000).Mono {
		t.Errorf("the count is due at %d", l.reportAt)
	}
	l.tick(11_000)
	want := fmt.Sprintf("%d messages about heartbeat connections were left out of the log|%[1]d of them were about connections from 192.0.2.1.", 1000-linesAtOnce-3)
	if host.count(want) != 1 || l.reportAt != Never {
		t.Errorf("the log:\n%s", host.log())
	}
	l.tick(60_000)
	if host.count("left out") != 1 {
		t.Error("the count was repeated")
	}
	for range linesAtOnce { // a minute of silence later it may speak again
		l.routine(at(80_000), addrA, Line{Message: "again"})
	}
	if n := host.count("again"); n != linesAtOnce {
		t.Errorf("%d lines after a minute, want %d", n, linesAtOnce)
	}
}

var host2 = netip.MustParseAddr("192.0.2.2")

// TestLogOfManyAddresses: nor can somebody with very many addresses fill the log, or our memory.
func TestLogOfManyAddresses(t *testing.T) {
	host := newFakeHost()
	l := newLogLimiter(host.Log, 4)
	var a [16]byte
	for i := range 100_000 {
		a[0], a[13], a[14], a[15] = 0x20, byte(i>>16), byte(i>>8), byte(i)
		l.routine(at(int64(i/100)), netip.AddrFrom16(a), Line{Message: "noise"}) // within a second
	}
	if n := host.count("noise"); n < allLinesAtOnce || n > allLinesAtOnce+10 {
		t.Errorf("%d lines", n)
	}
	if len(l.talkers) > maxAllowances {
		t.Errorf("%d addresses are remembered", len(l.talkers))
	}
	l.tick(20_000)
	if host.count("messages about heartbeat connections were left out of the log") != 1 {
		t.Error("they are not counted")
	}
	l.tick(120_000)
	l.routine(at(120_000), addrA, Line{Message: "sense"})
	if host.count("sense") != 1 {
		t.Error("it is over, and nothing is logged")
	}
}

// TestVerdictsAreLogged: in the midst of noise of the same address. Only more of them than there
// are slots are left out.
func TestVerdictsAreLogged(t *testing.T) {
	const slots = 150
	host := newFakeHost()
	l := newLogLimiter(host.Log, slots)
	for range 1000 {
		l.routine(at(0), addrA, Line{Message: "noise"})
	}
	for range slots {
		l.verdict(at(1), addrA, Line{Message: "verdict"})
	}
	if n := host.count("verdict"); n != slots {
		t.Errorf("%d verdicts, want %d", n, slots)
	}
	for i := range int64(10_000) {
		l.verdict(at(i), addrA, Line{Message: "flood"})
	}
	if n := host.count("flood"); n > 10 {
		t.Errorf("%d lines of a flood of verdicts", n)
	}
}

// TestLoopsAreLimited: what a peer can do again and again, each within ten seconds of a hundred
// rounds a second.
func TestLoopsAreLimited(t *testing.T) {
	for name, round := range map[string]func(b *bench, ms int64, n uint64){
		"close": func(b *bench, ms int64, n uint64) { b.fin(ms, b.admit(ms, who{byte(n), addrA, 1, 0})) },
		"reset": func(b *bench, ms int64, n uint64) { b.rst(ms, b.admit(ms, who{byte(n), addrA, 1, 0})) },
		"resumption": func(b *bench, ms int64, n uint64) {
			b.broke(ms, b.admit(ms, who{1, addrA, 1, 0}))
		},
		"given up": func(b *bench, ms int64, n uint64) { b.admit(ms, who{1, addrA, 1, n}) },
		"goodbye": func(b *bench, ms int64, n uint64) {
			b.bye(ms, b.admit(ms, who{1, addrA, 1, 0}), heartbeat.GoodbyeConmgrEnds)
		},
		"duplicate": func(b *bench, ms int64, n uint64) {
			b.bye(ms, b.admit(ms, who{1, addrA, 1, 0}), heartbeat.GoodbyeDuplicate)
		},
		"refused": func(b *bench, ms int64, n uint64) { _, _, _, _ = b.hello(ms, who{byte(n), addrA, byte(n), 0}) },
		"goodbye, while another one is alive": func(b *bench, ms int64, n uint64) {
			b.admit(ms, who{200, addrA, 1, 0})
			b.bye(ms, b.admit(ms, who{1, addrA, 1, 0}), heartbeat.GoodbyeConmgrEnds)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 4)
			b.timeout = time.Hour
			b.store.Asked = b.store.Terminate
			for n := range uint64(1000) {
				round(b, int64(n)*10, n)
				b.table.log.tick(int64(n) * 10)
			}
			b.table.log.tick(25_000)
			if n := strings.Count(b.host.log(), "\n"); n > 2*linesAtOnce {
				t.Errorf("%d lines:\n%s", n, b.host.log())
			}
			if b.host.count("were left out of the log|") == 0 {
				t.Errorf("what was left out is not told:\n%s", b.host.log())
			}
		})
	}
}
