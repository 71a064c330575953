package watchdog

// What peers can make the server's log say, kept within bounds: whoever reaches the port could fill
// the disk with it, or crowd verdicts out. Each address has an allowance, and all together have
// one; what is left out is counted, and the count is logged even if nothing else follows. Called
// within Step; pure.

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

const (
	linesAtOnce    = 20 // of one address, then one each
	lineEvery      = 3 * time.Second
	allLinesAtOnce = 200 // of all addresses, then one each
	anyLineEvery   = 100 * time.Millisecond
	verdictsAtOnce = 100 // of one address, or as many as there are slots; then one each
	verdictEvery   = 1 * time.Second
	reportEvery    = 10 * time.Second // what was left out
	maxAllowances  = 4096             // addresses with an allowance of their own at a time
)

// allowance is a token bucket, held as the time at which it would be full again.
type allowance struct{ full heartbeat.Mono }

func (a *allowance) take(now heartbeat.Mono, atOnce int, every time.Duration) bool {
	a.full = max(a.full, now)
	if a.full.Sub(now) > time.Duration(atOnce-1)*every {
		return false
	}
	a.full = a.full.Add(every)
	return true
}

// talker is an address that lines were about.
type talker struct {
	routine, verdicts allowance
	left              int // lines left out since the last report
}

// logLimiter passes lines on.
type logLimiter struct {
	out      func(Line)
	verdicts int // allowed at once
	all      allowance
	talkers  map[netip.Addr]*talker
	left     int            // lines left out since the last report
	reportAt heartbeat.Mono // Never: nothing was left out
	swept    heartbeat.Mono
}

func newLogLimiter(out func(Line), slots int) *logLimiter {
	return &logLimiter{out: out, verdicts: max(slots, verdictsAtOnce), talkers: make(map[netip.Addr]*talker),
		reportAt: Never}
}

// routine logs what a peer of addr has caused: at most as much as is allowed.
func (l *logLimiter) routine(now Now, addr netip.Addr, line Line) {
	t := l.talker(now.Mono, addr)
	if !t.routine.take(now.Mono, linesAtOnce, lineEvery) || !l.all.take(now.Mono, allLinesAtOnce, anyLineEvery) {
		l.leaveOut(now.Mono, t)
		return
	}
	l.out(line)
}

// verdict logs that a conmgr is dead. None of those is left out, but of an address that has more
// conmgrs die than there are slots for: somebody who connects and falls silent again and again.
func (l *logLimiter) verdict(now Now, addr netip.Addr, line Line) {
	t := l.talker(now.Mono, addr)
	if !t.verdicts.take(now.Mono, l.verdicts, verdictEvery) {
		l.leaveOut(now.Mono, t)
		return
	}
	l.out(line)
}

// repeated counts a line that the caller has left out himself.
func (l *logLimiter) repeated(now Now, addr netip.Addr) {
	l.leaveOut(now.Mono, l.talker(now.Mono, addr))
}

func (l *logLimiter) leaveOut(now heartbeat.Mono, t *talker) {
	if l.left == 0 {
		l.reportAt = now.Add(reportEvery)
	}
	l.left++
	t.left++
}

func (l *logLimiter) talker(now heartbeat.Mono, addr netip.Addr) *talker {
	addr = hostOf(addr)
	t := l.talkers[addr]
	if t != nil {
		return t
	}
	if len(l.talkers) >= maxAllowances && now.Sub(l.swept) >= time.Second {
		l.sweep(now)
	}
	t = &talker{}
	if len(l.talkers) < maxAllowances { // else somebody has very many addresses, and what all may log is the limit
		l.talkers[addr] = t
	}
	return t
}

// sweep forgets who has its whole allowance again.
func (l *logLimiter) sweep(now heartbeat.Mono) {
	l.swept = now
	for addr, t := range l.talkers {
		if t.routine.full <= now && t.verdicts.full <= now && t.left == 0 {
			delete(l.talkers, addr)
		}
	}
}

// report says what was left out, if it is time.
func (l *logLimiter) report(now heartbeat.Mono) {
	if now < l.reportAt || l.left == 0 {
		return
	}
	var most *talker
	var from netip.Addr
	for addr, t := range l.talkers {
		if most == nil || t.left > most.left || t.left == most.left && addr.Less(from) {
			most, from = t, addr
		}
	}
	line := Line{Level: Log, Message: fmt.Sprintf("%d messages about heartbeat connections were left out of the log",
		l.left)}
	if most != nil && most.left > 0 {
		line.Detail = fmt.Sprintf("%d of them were about connections from %s.", most.left, from)
	}
	l.out(line)
	for _, t := range l.talkers {
		t.left = 0
	}
	l.left, l.reportAt = 0, Never
	l.sweep(now)
}
