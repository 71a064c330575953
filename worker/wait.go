package worker

// The reactor's wait: for events, and for the time at which something is due. Used by the reactor's
// goroutine, which blocks in wait only.

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

// waiter is an epoll instance with a timer in it. Go's own poller watches the instance: so a wait
// costs the pause of a goroutine, and not a thread in a system call, of which Go's monitor thread
// would have to be told each time.
type waiter struct {
	epfd   int
	file   *os.File // of epfd
	raw    syscall.RawConn
	timer  int
	due    heartbeat.Mono // for which the timer is set; 0: it is not
	events []unix.EpollEvent
	n      int
	err    error
	take   func(uintptr) bool

	busy  bool // events follow each other closely
	turns int  // begun by a short wait
}

// yieldEvery is how often the other goroutines, if there are any, get their turn while this one is
// busy.
const yieldEvery = 16

// brief is for how long a thread waits without the knowledge of Go's scheduler, while events follow
// each other closely: another such wait costs less than Go's poller. A garbage collection would
// have to wait for as long.
const brief = 3 * time.Millisecond

func newWaiter() (*waiter, error) {
	w := &waiter{}
	var err error
	if w.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("could not create an epoll instance: %w", err)
	}
	if w.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		unix.Close(w.epfd)
		return nil, fmt.Errorf("could not create a timer: %w", err)
	}
	err = unix.SetNonblock(w.epfd, true) // or else Go would not watch it
	w.file = os.NewFile(uintptr(w.epfd), "epoll")
	if err == nil {
		w.raw, err = w.file.SyscallConn()
	}
	if err == nil {
		err = w.add(w.timer, unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: timerIndex})
	}
	if err != nil {
		w.close()
		return nil, err
	}
	w.take = func(uintptr) bool {
		w.poll(0)
		return w.n != 0
	}
	return w, nil
}

func (w *waiter) close() {
	unix.Close(w.timer)
	w.file.Close()
}

func (w *waiter) add(fd int, ev unix.EpollEvent) error {
	if err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("could not add a descriptor to epoll: %w", err)
	}
	return nil
}

// wait returns the number of events, 0 only if it is time.
func (w *waiter) wait(clock Clock, until heartbeat.Mono, events []unix.EpollEvent) (int, error) {
	w.events = events
	now := clock().Mono
	if w.busy {
		if w.turns++; w.turns%yieldEvery == 0 {
			runtime.Gosched() // what follows is no pause for the scheduler
		}
		end := min(until, now.Add(brief))
		if w.poll(milliseconds(end.Sub(now))); w.n != 0 || end == until {
			return w.n, w.err
		}
		now = clock().Mono
	}
	if until != w.due {
		if err := rawsys.SetTimer(w.timer, delay(now, until)); err != nil {
			return 0, fmt.Errorf("could not set a timer: %w", err)
		}
		w.due = until
	}
	if err := errors.Join(w.raw.Read(w.take), w.err); err != nil {
		return 0, fmt.Errorf("could not wait for events: %w", err)
	}
	w.busy = clock().Mono.Sub(now) < brief
	return w.n, nil
}

// poll takes the events that there are, or come within some milliseconds.
func (w *waiter) poll(ms int) {
	for {
		if w.n, w.err = rawsys.EpollWait(w.epfd, w.events, ms); w.err != unix.EINTR {
			return
		}
	}
}

// fired is called at the timer's event: it has to be set again.
func (w *waiter) fired() { w.due = 0 }

// delay is how long it takes until a time, rounded up to the millisecond's end: what is due within
// the same one is done together. 0: it watchdog.Never comes.
func delay(now, until heartbeat.Mono) time.Duration {
	const ms = heartbeat.Mono(time.Millisecond)
	if until > watchdog.Never-ms {
		return 0
	}
	return max((until+ms-1)/ms*ms-now, 1).Sub(0)
}

// milliseconds is for epoll_wait, rounded up: it must not end before anything is due.
func milliseconds(d time.Duration) int {
	return int((max(d, 0) + time.Millisecond - 1) / time.Millisecond)
}
