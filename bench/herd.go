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
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
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
	beats    int  // sent since then, those included that the silent ones did not send
	received int  // frames
	returns  bool // whose connection has ended connects again
	events   [512]unix.EpollEvent
	buf      [16 << 10]byte
}

type conmgrSim struct {
	fd       int
	key      *proof.Key // nil: without
	attempt  uint32     // the latest
	hello    []byte     // with a key, until CHALLENGE
	shake    *proof.Handshake
	welcome  bool          // the answer to HELLO has come
	resumed  bool          // which has said that it has resumed
	again    time.Duration // when it connects again
	pause    time.Duration // before the attempt after that
	silent   bool          // sends nothing any more
	channel  heartbeat.Channel
	lastSent time.Duration
	verdict  time.Duration // when the watchdog's GOODBYE came, or the connection ended; 0: it is alive
	end      string        // how it ended
}

// newHerd connects n conmgrs, spread over an interval at least, and returns when all have been
// answered. keys: theirs, none if there are none.
func newHerd(b *bench, host *testnet.Host, port, n int, interval, timeout time.Duration, keys ...*proof.Key) *herd {
	h := &herd{b: b, port: port, interval: interval, timeout: timeout, conmgrs: make([]conmgrSim, n),
		order: b.shuffled(n)}
	for i := range h.conmgrs {
		h.conmgrs[i].fd = -1
		if len(keys) > 0 {
			h.conmgrs[i].key = keys[i]
		}
	}
	var err error
	if h.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		b.Fatalf("epoll_create1: %v", err)
	}
	const steps = 100
	begun := testnet.Monotonic()
	h.returns = true
	for s := range steps {
		from, to := n*s/steps, n*(s+1)/steps
		if err := host.Do(func() error { return h.connect(from, to) }); err != nil {
			b.Fatalf("a simulated conmgr could not connect: %v", err)
		}
		h.handle(begun + time.Duration(s+1)*interval/steps)
	}
	h.settle(host, func(c *conmgrSim) bool { return c.welcome })
	return h
}

// settle waits until all are there, and has those connect again whose connections end meanwhile, as
// conmgr does: at once, and then after 50 ms, doubled up to a second.
func (h *herd) settle(host *testnet.Host, there func(*conmgrSim) bool) {
	h.returns = true
	err := host.Do(func() error {
		for deadline := testnet.Monotonic() + patience; h.b.Context().Err() == nil; h.handle(testnet.Monotonic() + time.Millisecond) {
			now, missing, why := testnet.Monotonic(), 0, ""
			for i := range h.conmgrs {
				c := &h.conmgrs[i]
				if !there(c) {
					missing, why = missing+1, c.end
				}
				if c.fd < 0 && c.again <= now {
					if err := h.dial(i); err != nil {
						return err
					}
				}
			}
			if missing == 0 {
				return nil
			}
			if now > deadline {
				return fmt.Errorf("%d of %d simulated conmgrs are not welcomed: %s", missing, len(h.conmgrs), why)
			}
		}
		return errors.New("interrupted")
	})
	if err != nil {
		h.b.Fatalf("%v", err)
	}
	h.returns = false
	h.started, h.beats = testnet.Monotonic(), 0
}

// connect connects some of the conmgrs, and sends their HELLO.
func (h *herd) connect(from, to int) error {
	for i := from; i < to; i++ {
		if err := h.dial(i); err != nil {
			return fmt.Errorf("number %d: %w", i, err)
		}
	}
	return nil
}

// dial begins a connection.
func (h *herd) dial(i int) (err error) {
	c := &h.conmgrs[i]
	if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return err
	}
	c.attempt++
	c.welcome, c.resumed, c.hello, c.shake = false, false, nil, nil
	c.channel = heartbeat.Channel{Version: heartbeat.MaxVersion, Attempt: c.attempt}
	err = errors.Join(
		unix.SetsockoptInt(c.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.Bind(c.fd, &unix.SockaddrInet4{Addr: [4]byte{127, 1 + byte(i/62500), byte(i / 250 % 250), 1 + byte(i%250)}}))
	if err != nil {
		return err
	}
	err = unix.Connect(c.fd, &unix.SockaddrInet4{Port: h.port, Addr: [4]byte{127, 0, 0, 1}})
	switch {
	case err == nil || err == unix.EINPROGRESS:
	case h.returns: // it is refused
		h.ended(c, err.Error())
		return nil
	default:
		return err
	}
	return unix.EpollCtl(h.epfd, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: int32(i)})
}

// connected: HELLO.
func (h *herd) connected(i int) {
	c := &h.conmgrs[i]
	if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		h.ended(c, unix.Errno(code).Error())
		return
	}
	id := heartbeat.ID{byte(i >> 16), byte(i >> 8), byte(i), 1}
	hello := heartbeat.Hello{MinVersion: heartbeat.MinVersion, MaxVersion: heartbeat.MaxVersion, ID: id, Boot: id,
		Interval: h.interval, Timeout: h.timeout, Attempt: c.attempt}
	if c.key != nil {
		hello.MinVersion, hello.KeyID, hello.Nonce = 2, c.key.ID, proof.Nonce{byte(i), byte(i >> 8), byte(c.attempt)}
	}
	c.hello = hello.Append(nil)
	c.lastSent = testnet.Monotonic()
	_, err := unix.Write(c.fd, c.hello)
	if err == nil {
		err = unix.EpollCtl(h.epfd, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
	}
	if err != nil {
		h.ended(c, err.Error())
	}
}

// comesBack returns how long it takes until all are back, when what does has ended their connections.
func (h *herd) comesBack(host *testnet.Host, ends func()) time.Duration {
	before := make(map[*conmgrSim]uint32, len(h.conmgrs))
	for i := range h.conmgrs {
		before[&h.conmgrs[i]] = h.conmgrs[i].attempt
	}
	begun := testnet.Monotonic()
	ends()
	h.settle(host, func(c *conmgrSim) bool { return c.welcome && c.attempt > before[c] })
	return testnet.Monotonic() - begun
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
	var frame [32]byte
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
			if c := &h.conmgrs[ev.Fd]; ev.Events&unix.EPOLLOUT != 0 && c.fd >= 0 {
				h.connected(int(ev.Fd))
			} else if c.fd >= 0 {
				h.read(c)
			}
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
		data = data[size:]
		c.welcome = c.welcome || c.key == nil // the floor has an answer of its own
		switch f.Type {
		case heartbeat.TypeChallenge:
			c.shake = proof.NewHandshake(c.key, proof.TranscriptOf(c.hello, f.Whole))
			_, _ = unix.Write(c.fd, heartbeat.AppendResponse(nil, c.shake.Response()))
		case heartbeat.TypeWelcome:
			h.welcomed(c, f)
		case heartbeat.TypeGoodbye, heartbeat.TypeRefused:
			h.ended(c, fmt.Sprintf("%v %d: %s", f.Type, binary.BigEndian.Uint16(f.Payload), f.Payload[4:]))
			return
		}
	}
}

func (h *herd) welcomed(c *conmgrSim, f heartbeat.Frame) {
	payload := f.Payload
	if c.shake != nil {
		var ok bool
		if payload, ok = c.shake.OpenWelcome(f.Whole); !ok {
			h.ended(c, "the watchdog has not proved the key")
			return
		}
		c.channel.Prove(c.shake, proof.FromConmgr, h.timeout)
	}
	w, err := heartbeat.ParseWelcome(payload)
	if err != nil {
		h.ended(c, err.Error())
		return
	}
	c.welcome, c.resumed, c.pause, c.hello, c.shake = true, w.Flags&heartbeat.Resumed != 0, 0, nil, nil
}

func (h *herd) ended(c *conmgrSim, how string) {
	unix.Close(c.fd)
	c.fd, c.welcome = -1, false
	if h.returns {
		c.end = how
		c.again = testnet.Monotonic() + c.pause
		c.pause = min(max(2*c.pause, 50*time.Millisecond), time.Second)
		return
	}
	if c.verdict == 0 {
		c.verdict, c.end = testnet.Monotonic(), how
	}
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
