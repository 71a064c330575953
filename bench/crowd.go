package main

// Many applications of one conmgr, as thin as can be: each is a socket that has asked for its
// target. One epoll loop, run by the figure's goroutine while it calls a method. Blocks in
// epoll_wait.

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// crowd is the applications.
type crowd struct {
	b      *bench
	epfd   int
	apps   []app
	bound  int
	told   int
	events [512]unix.EpollEvent
	buf    [16 << 10]byte
}

type app struct {
	fd    int
	got   []byte    // of the answers, until it is bound
	bound time.Time // when its answer was read
	told  time.Time // when the loss was read
}

// What ends the answer to SHOW TARGET.
var boundSuffix = []byte("SHOW\x00Z\x00\x00\x00\x05I")

const inFlight = 64 // applications that connect at the same time

// newCrowd connects n applications to the conmgr of a host, and returns when all are bound.
func newCrowd(b *bench, host *testnet.Host, port, n int) *crowd {
	c := crowdThatAsks(b, host, port, n, "SHOW TARGET primary", inFlight)
	c.wait(patience, 0, func() bool { return c.bound == n })
	return c
}

// crowdThatAsks connects n applications that have asked then; as many may wait for their answers.
func crowdThatAsks(b *bench, host *testnet.Host, port, n int, statement string, waiting int) *crowd {
	c := &crowd{b: b, apps: make([]app, n)}
	for i := range c.apps {
		c.apps[i].fd = -1
	}
	var err error
	if c.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		b.Fatalf("epoll_create1: %v", err)
	}
	hello := binary.BigEndian.AppendUint32(nil, 0)
	hello = binary.BigEndian.AppendUint32(hello, 3<<16)
	hello = append(hello, "user\x00bench\x00application_name\x00bench\x00\x00"...)
	binary.BigEndian.PutUint32(hello, uint32(len(hello)))
	query := statement + "\x00"
	hello = append(binary.BigEndian.AppendUint32(append(hello, 'Q'), uint32(4+len(query))), query...)
	err = host.Do(func() error {
		for i := range c.apps {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			c.apps[i].fd = fd
			if err = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				return err
			}
			if _, err = unix.Write(fd, hello); err != nil {
				return err
			}
			if err = unix.EpollCtl(c.epfd, unix.EPOLL_CTL_ADD, fd,
				&unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
				return err
			}
			c.wait(patience, 0, func() bool { return i-c.bound < waiting })
		}
		return nil
	})
	if err != nil {
		b.Fatalf("an application could not connect: %v", err)
	}
	return c
}

// wait reads what comes until done. pause: at most that often, so that most of the time is the
// sender's and not that of one process being woken again and again.
func (c *crowd) wait(limit, pause time.Duration, done func() bool) {
	for deadline := time.Now().Add(limit); !done(); {
		if pause > 0 {
			t := unix.NsecToTimespec(int64(pause))
			_ = unix.Nanosleep(&t, nil)
		}
		n, err := unix.EpollWait(c.epfd, c.events[:], 100)
		if err != nil && err != unix.EINTR {
			c.b.Fatalf("epoll_wait: %v", err)
		}
		for _, ev := range c.events[:max(n, 0)] {
			c.read(&c.apps[ev.Fd])
		}
		if time.Now().After(deadline) || c.b.Context().Err() != nil {
			c.b.Fatalf("of %d applications %d are bound, and %d told of the loss", len(c.apps), c.bound, c.told)
		}
	}
}

func (c *crowd) read(a *app) {
	n, err := unix.Read(a.fd, c.buf[:])
	data := c.buf[:max(n, 0)]
	switch {
	case n > 0 && a.bound.IsZero():
		if a.got = append(a.got, data...); bytes.HasSuffix(a.got, boundSuffix) {
			a.bound, a.got = time.Now(), nil
			c.bound++
		}
	case n > 0 && bytes.Contains(data, []byte("C57P01\x00")):
		a.told = time.Now()
		c.told++
	case n == 0 && c.told > 0: // conmgr closes its direction when all are told; the rest of it is done in close
		_ = unix.EpollCtl(c.epfd, unix.EPOLL_CTL_DEL, a.fd, nil)
	default:
		c.b.Fatalf("an application got %q, %v", data, err)
	}
}

// since returns how long after a moment something has come to the applications, sorted.
func (c *crowd) since(t time.Time, came func(*app) time.Time) (d []time.Duration) {
	for i := range c.apps {
		d = append(d, came(&c.apps[i]).Sub(t))
	}
	slices.Sort(d)
	return d
}

func isTold(a *app) time.Time  { return a.told }
func isBound(a *app) time.Time { return a.bound }

func (c *crowd) close() {
	for i := range c.apps {
		if c.apps[i].fd >= 0 {
			unix.Close(c.apps[i].fd)
		}
	}
	unix.Close(c.epfd)
}
