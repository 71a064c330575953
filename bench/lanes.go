package main

// Many trials at the same time: parts of a figure with cleanups of their own, applications that
// tell what happens to them, the ends of processes.

import (
	"bufio"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// Scope runs a part of a figure. What it registers with Cleanup is done at its end.
func (b *bench) Scope(fn func(*bench)) {
	err := testkit.Program(b.Context(), os.Stdout, func(r *testkit.Run) {
		inner := *b
		inner.Run = r
		fn(&inner)
	})
	if err != nil {
		b.Fatalf("%v", err)
	}
}

// Parallel calls fn with 0 ... n-1, at most so many at a time, and returns when all have returned.
// If one fails, the caller ends.
func (b *bench) Parallel(n, atATime int, fn func(i int)) {
	var wg sync.WaitGroup
	tickets := make(chan struct{}, atATime)
	for i := range n {
		tickets <- struct{}{}
		wg.Add(1)
		go func() {
			defer func() { <-tickets; wg.Done() }()
			if !b.Failed() && b.Context().Err() == nil {
				fn(i)
			}
		}()
	}
	wg.Wait()
	if err := b.Context().Err(); err != nil {
		b.Errorf("%v", err)
	}
	if b.Failed() {
		runtime.Goexit()
	}
}

// phases are moments at random within a period, in order.
func phases(n int, period time.Duration) []time.Duration {
	at := make([]time.Duration, n)
	for i := range at {
		at[i] = rand.N(period)
	}
	slices.Sort(at)
	return at
}

// event is what an application tells.
type event struct {
	who, what string
	at        time.Duration // CLOCK_MONOTONIC
}

// App starts one of the programs of bench/c inside a host, until the end of the scope. What it
// writes are events: tab-separated who, seconds, and what.
func (b *bench) App(h *testnet.Host, env []string, to chan<- event, name string, args ...string) {
	cmd := b.As(h, env, b.Program(name), args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatalf("%v", err)
	}
	b.Start(cmd)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			f := append(strings.Split(s.Text(), "\t"), "")
			if seconds, err := strconv.ParseFloat(f[1], 64); err == nil {
				to <- event{f[0], f[2], time.Duration(seconds * float64(time.Second))}
			}
		}
	}()
}

// next waits for an event until a moment of CLOCK_MONOTONIC.
func (b *bench) next(from <-chan event, until time.Duration) (event, bool) {
	select {
	case e := <-from:
		return e, true
	default:
	}
	select {
	case e := <-from:
		return e, true
	case <-time.After(until - testnet.Monotonic()):
	case <-b.Context().Done():
	}
	return event{}, false
}

// pause waits until a moment of CLOCK_MONOTONIC.
func (b *bench) pause(until time.Duration) { b.next(nil, until) }

// ends tells when processes end. One goroutine waits for all of them, and costs nothing meanwhile.
type ends struct {
	mu   sync.Mutex
	at   map[int]time.Duration
	left int
	done chan struct{} // closed when all have ended
}

// Ends watches processes until they have ended, or the scope has.
func (b *bench) Ends(pids []int) *ends {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		b.Fatalf("epoll_create1: %v", err)
	}
	e := &ends{at: map[int]time.Duration{}, left: len(pids), done: make(chan struct{})}
	fds := map[int32]int{}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err == nil {
			fds[int32(fd)] = pid
			err = unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd,
				&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(fd)})
		}
		if err != nil {
			b.Fatalf("process %d: %v", pid, err)
		}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	b.Cleanup(func() { close(stop); <-stopped })
	go func() {
		defer close(stopped)
		e.wait(poll, fds, stop)
		for fd := range fds {
			unix.Close(int(fd))
		}
		unix.Close(poll)
	}()
	return e
}

func (e *ends) wait(poll int, fds map[int32]int, stop <-chan struct{}) {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(poll, events, 100)
		now := testnet.Monotonic()
		if err != nil && err != unix.EINTR {
			panic(err) // cannot fail on these descriptors
		}
		e.mu.Lock()
		for _, ev := range events[:max(n, 0)] {
			e.at[fds[ev.Fd]] = now
			e.left--
		}
		left := e.left
		e.mu.Unlock()
		if left == 0 {
			close(e.done)
			return
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

// Of is when a process ended.
func (e *ends) Of(pid int) (time.Duration, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, ok := e.at[pid]
	return at, ok
}

// Range is when the first and the last of those that have ended did so.
func (e *ends) Range() (first, last time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, at := range e.at {
		if first == 0 || at < first {
			first = at
		}
		last = max(last, at)
	}
	return first, last
}

// Wait waits until all have ended, or a moment of CLOCK_MONOTONIC, and tells whether all have.
func (e *ends) Wait(b *bench, until time.Duration) bool {
	select {
	case <-e.done:
		return true
	case <-time.After(until - testnet.Monotonic()):
	case <-b.Context().Done():
	}
	return false
}

// stalls records when this machine, or at least this process, stood still.
type stalls struct {
	mu   sync.Mutex
	gaps [][2]time.Duration // from, to
}

// Stalls watches until the end of the scope, by one goroutine.
func (b *bench) Stalls() *stalls {
	const tick = 5 * time.Millisecond
	s, stop := &stalls{}, make(chan struct{})
	b.Cleanup(func() { close(stop) })
	go func() {
		t := time.NewTicker(tick)
		defer t.Stop()
		for last := testnet.Monotonic(); ; {
			select {
			case <-t.C:
			case <-stop:
				return
			}
			now := testnet.Monotonic()
			if now-last > 2*tick {
				s.mu.Lock()
				s.gaps = append(s.gaps, [2]time.Duration{last + tick, now})
				s.mu.Unlock()
			}
			last = now
		}
	}()
	return s
}

// Within is the longest stall that overlaps a period.
func (s *stalls) Within(from, to time.Duration) (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.gaps {
		if g[0] < to && g[1] > from {
			longest = max(longest, g[1]-g[0])
		}
	}
	return longest
}
