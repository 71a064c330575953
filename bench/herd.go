package main

// Simulated conmgrs, thousands of them: the heartbeat protocol, and nothing else. One epoll loop,
// run by the figure's goroutine while it calls a method; between calls nothing is sent, so the
// calls follow each other closely. Blocks in epoll_wait.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// herd is the simulated conmgrs of one server. Each has an address of its own, 127.x.y.z of the
// server's host, and so is a client host of its own.
type herd struct {
	b        *bench
	port     int
	timeout  time.Duration
	interval time.Duration
	epfd     int
	conmgrs  []conmgrSim
	order    []int // who beats after whom: the beats are spread evenly over the interval
	started  time.Duration
	beats    int // sent since then, those included that the silent ones did not send
	received int // frames
	events   [512]unix.EpollEvent
	buf      [16 << 10]byte
}

type conmgrSim struct {
	fd       int
	welcome  bool // the first frame has come
	silent   bool // sends nothing any more
	channel  heartbeat.Channel
	lastSent time.Duration
	verdict  time.Duration // when the watchdog's GOODBYE came, or the connection ended; 0: it is alive
	end      string        // how it ended
}

// newHerd connects n conmgrs, spread over an interval at least, and returns when all have been
// answered.
func newHerd(b *bench, host *testnet.Host, port, n int, interval, timeout time.Duration) *herd {
	h := &herd{b: b, port: port, interval: interval, timeout: timeout, conmgrs: make([]conmgrSim, n),
		order: b.shuffled(n)}
	for i := range h.conmgrs {
		h.conmgrs[i].fd = -1
	}
	var err error
	if h.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		b.Fatalf("epoll_create1: %v", err)
	}
	const steps = 100
	begun := testnet.Monotonic()
	for s := range steps {
		from, to := n*s/steps, n*(s+1)/steps
		if err := host.Do(func() error { return h.connect(from, to) }); err != nil {
			b.Fatalf("a simulated conmgr could not connect: %v", err)
		}
		h.handle(begun + time.Duration(s+1)*interval/steps)
	}
	deadline := testnet.Monotonic() + patience
	for i := range h.conmgrs {
		for c := &h.conmgrs[i]; !c.welcome; h.handle(testnet.Monotonic() + time.Millisecond) {
			if c.verdict != 0 || testnet.Monotonic() > deadline {
				b.Fatalf("simulated conmgr %d of %d is not welcomed: %s", i, n, c.end)
			}
		}
	}
	h.started = testnet.Monotonic()
	return h
}

// connect connects some of the conmgrs, and sends their HELLO.
func (h *herd) connect(from, to int) error {
	for i := from; i < to; i++ {
		c := &h.conmgrs[i]
		var err error
		if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		id := heartbeat.ID{byte(i >> 16), byte(i >> 8), byte(i), 1}
		hello := heartbeat.Hello{MinVersion: heartbeat.MinVersion, MaxVersion: heartbeat.MaxVersion, ID: id, Boot: id,
			Interval: h.interval, Timeout: h.timeout, Attempt: 1}.Append(nil)
		err = errors.Join(
			unix.SetsockoptInt(c.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.Bind(c.fd, &unix.SockaddrInet4{Addr: [4]byte{127, 1 + byte(i/62500), byte(i / 250 % 250),
				1 + byte(i%250)}}),
			unix.Connect(c.fd, &unix.SockaddrInet4{Port: h.port, Addr: [4]byte{127, 0, 0, 1}}),
			unix.SetNonblock(c.fd, true))
		if err == nil {
			_, err = unix.Write(c.fd, hello)
		}
		if err == nil {
			err = unix.EpollCtl(h.epfd, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
		}
		if err != nil {
			return fmt.Errorf("number %d: %w", i, err)
		}
		c.channel = heartbeat.Channel{Version: heartbeat.MaxVersion, Attempt: 1}
		c.lastSent = testnet.Monotonic()
	}
	return nil
}

// run exchanges heartbeats for some time.
func (h *herd) run(d time.Duration) {
	for until := testnet.Monotonic() + d; h.b.Context().Err() == nil; {
		now := testnet.Monotonic()
		if now >= until {
			return
		}
		for h.due(h.beats) <= now {
			h.beat(&h.conmgrs[h.order[h.beats%len(h.order)]])
			h.beats++
		}
		h.handle(min(until, h.due(h.beats)))
	}
}

// due is when the n-th beat is.
func (h *herd) due(n int) time.Duration {
	return h.started + time.Duration(float64(n)/float64(len(h.order))*float64(h.interval))
}

func (h *herd) beat(c *conmgrSim) {
	if c.silent || c.verdict != 0 {
		return
	}
	c.lastSent = testnet.Monotonic()
	var frame [16]byte
	if _, err := unix.Write(c.fd, c.channel.ConmgrBeat(frame[:0], heartbeat.Mono(c.lastSent))); err != nil {
		h.ended(c, err.Error())
	}
}

// handle reads what comes until a time.
func (h *herd) handle(until time.Duration) {
	for {
		left := until - testnet.Monotonic()
		n, err := unix.EpollWait(h.epfd, h.events[:], int(max(0, (left+time.Millisecond-1)/time.Millisecond)))
		if err != nil && err != unix.EINTR {
			h.b.Fatalf("epoll_wait: %v", err)
		}
		for _, ev := range h.events[:max(n, 0)] {
			h.read(&h.conmgrs[ev.Fd])
		}
		if testnet.Monotonic() >= until {
			return
		}
	}
}

func (h *herd) read(c *conmgrSim) {
	n, err := unix.Read(c.fd, h.buf[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n == 0 {
		h.ended(c, fmt.Sprintf("the connection ended: %v", err))
		return
	}
	for data := h.buf[:n]; len(data) > 0; { // frames this small come whole
		f, size, err := heartbeat.Next(data)
		if err != nil || size == 0 {
			h.ended(c, fmt.Sprintf("a damaged frame: %v", err))
			return
		}
		h.received++
		c.welcome = true
		data = data[size:]
		switch f.Type {
		case heartbeat.TypeGoodbye, heartbeat.TypeRefused:
			h.ended(c, fmt.Sprintf("%v %d: %s", f.Type, binary.BigEndian.Uint16(f.Payload), f.Payload[4:]))
			return
		}
	}
}

func (h *herd) ended(c *conmgrSim, how string) {
	if c.verdict == 0 {
		c.verdict, c.end = testnet.Monotonic(), how
	}
	unix.Close(c.fd)
	c.fd = -1
}

// silence makes every n-th conmgr send nothing from now on. Their connections stay.
func (h *herd) silence(n int) {
	for i := 0; i < len(h.conmgrs); i += n {
		h.conmgrs[i].silent = true
	}
}

// waiting tells whether a silent one has no verdict yet.
func (h *herd) waiting() bool {
	return slices.ContainsFunc(h.conmgrs, func(c conmgrSim) bool { return c.silent && c.verdict == 0 })
}

// close ends all with a GOODBYE.
func (h *herd) close() {
	for i := range h.conmgrs {
		if c := &h.conmgrs[i]; c.fd >= 0 {
			_, _ = unix.Write(c.fd, c.channel.ConmgrGoodbye(nil, heartbeat.Goodbye{Code: heartbeat.GoodbyeConmgrEnds}, 0))
			unix.Close(c.fd)
			c.fd = -1
		}
	}
	unix.Close(h.epfd)
}
