package relay

// The data path of relayed connections. A loop carries bytes between pairs of sockets, and is
// the only one to touch them: one goroutine a loop, which blocks in epoll_wait(2) only. What it
// moves is bounded: per direction what the receiver has not taken yet, at most a buffer or a pipe
// full; then the sender has to wait.
//
// Small amounts, as queries and answers are, go by recv(2) and send(2). When a whole buffer comes
// in, splice(2) goes on through a pipe. On loopback that is as fast as copying with a large buffer,
// if the pipe is larger than it is by default, and a third slower if not (BenchmarkRelayBulk);
// network cards hand over pages that need not be copied at all. For a hundred bytes, two splices do
// more work than a copy.

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

const (
	BufferSize  = 64 << 10  // of a loop; and the most that is kept of a direction
	relayPipe   = 256 << 10 // size of a pipe, if the system's limit for a user allows
	relayRounds = 4         // of one direction, until the others have their turn
	relayEvents = 64        // taken at a time
	relaySoon   = 5         // milliseconds
	MaxPipes    = 16        // of a loop; a direction that gets none does with its buffer

	// Edge-triggered, once for all: no epoll_ctl(2) while bytes flow.
	relayWants = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
	relayEnded = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
)

// flow is a relayed connection in its loop: two sockets.
type flow struct {
	client, server end
	closed         bool // of the loop, as everything else
	heard          bool // the instance has said something
	done           func()
	of             *relayed // nil: of a test
}

// end is one of the sockets, and the direction from it to the other.
type end struct {
	flow   *flow
	to     *end
	fd     int
	last   bool   // epoll has told of the end of the stream, or of an error: it is to be read
	later  bool   // is in loop.later
	rest   []byte // was read here, and the other end has not taken it yet
	pipe   *pipe  // the same, spliced
	eof    bool   // nothing more comes from here
	passed bool   // and the other end knows
}

func (e *end) blocked() bool { return len(e.rest) > 0 || e.pipe != nil }

// pipe holds bytes between two splices.
type pipe struct {
	r, w int
	held int
}

type loop struct {
	ep, event int // epoll, eventfd
	buf       [BufferSize]byte
	ends      []*end // by descriptor
	later     []*end // have used up their rounds, and get no event for what is left
	idle      []*pipe
	pipes     int // made, and not closed
	live      map[*flow]struct{}

	urgent   atomic.Bool // there is something in what follows
	mu       sync.Mutex
	incoming []*flow
	resets   []*flow
	looks    []look
	quitting bool
	leaving  chan<- []*flow // the loop gives up its flows, and ends
}

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(event)})
		if err != nil {
			unix.Close(event)
		}
	}
	if err != nil {
		unix.Close(ep)
		return nil, err
	}
	return &loop{ep: ep, event: event, live: map[*flow]struct{}{}}, nil
}

// add hands a flow over, with its non-blocking sockets. ok is false when the loop has ended; the
// caller keeps the sockets then. done is called by the loop when it has closed them.
func (l *loop) add(client, server int, done func()) (f *flow, ok bool) {
	f = newFlow(client, server, done)
	return f, l.put(f)
}

func newFlow(client, server int, done func()) *flow {
	f := &flow{done: done}
	f.client = end{flow: f, to: &f.server, fd: client}
	f.server = end{flow: f, to: &f.client, fd: server}
	return f
}

func (l *loop) put(f *flow) bool { return l.post(func() { l.incoming = append(l.incoming, f) }) }

// reset ends a flow at once, with an RST to both sides. It never blocks.
func (l *loop) reset(f *flow) { l.post(func() { l.resets = append(l.resets, f) }) }

// quit resets all flows, and ends the loop.
func (l *loop) quit() { l.post(func() { l.quitting = true }) }

func (l *loop) post(what func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quitting {
		return false
	}
	what()
	if !l.urgent.Swap(true) {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		unix.Write(l.event, one[:]) // cannot fail: the counter is 0 or 1
	}
	return true
}

// run carries until quit.
func (l *loop) run() {
	defer l.end()
	runtime.LockOSThread() // and does not unlock it: nobody else needs this thread
	var crowd crowd
	var events [relayEvents]unix.EpollEvent
	for {
		n := l.wait(events[:])
		crowd.came(n)
		for i := range n {
			if l.urgent.Load() && !l.take() { // a loss does not wait for the others' bytes
				return
			}
			fd := int(events[i].Fd)
			if fd < len(l.ends) && l.ends[fd] != nil {
				l.ready(l.ends[fd], events[i].Events)
			}
		}
		if l.urgent.Load() && !l.take() {
			return
		}
		later := l.later
		l.later = nil
		for _, e := range later {
			if e.later = false; !e.flow.closed {
				l.finish(e.flow, l.move(e))
			}
		}
	}
}

// wait returns the number of events; none if there is other work to do. What comes soon is waited
// for without giving the Go scheduler a word, after which this thread would have to queue for its
// turn; a loop that is idle does not hold the turn that others need.
func (l *loop) wait(events []unix.EpollEvent) int {
	soon := relaySoon
	if len(l.later) > 0 {
		soon = 0
	}
	n, err := rawsys.EpollWait(l.ep, events, soon)
	if n == 0 && soon > 0 {
		n, err = unix.EpollWait(l.ep, events, -1)
	}
	if err != nil && err != unix.EINTR {
		panic("epoll_wait: " + err.Error())
	}
	return max(n, 0)
}

// take does what was posted. It tells whether the loop goes on. Descriptors of events that are
// still to be handled may be closed here, but are used again at most for a new connection, to which
// an old event does no harm.
func (l *loop) take() bool {
	var count [8]byte
	unix.Read(l.event, count[:])
	l.mu.Lock()
	l.urgent.Store(false)
	incoming, resets, looks, quitting := l.incoming, l.resets, l.looks, l.quitting
	leaving := l.leaving
	l.incoming, l.resets, l.looks, l.leaving = nil, nil, nil, nil
	l.mu.Unlock()
	for _, f := range incoming {
		l.live[f] = struct{}{}
		for _, e := range []*end{&f.client, &f.server} {
			for len(l.ends) <= e.fd {
				l.ends = append(l.ends, nil)
			}
			l.ends[e.fd] = e
		}
		for _, e := range []*end{&f.client, &f.server} {
			// no memory
			if unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, e.fd,
				&unix.EpollEvent{Events: relayWants, Fd: int32(e.fd)}) != nil {
				l.close(f, true)
				break
			}
		}
	}
	// Clients first, as somebody waits there.
	for _, f := range resets {
		if !f.closed {
			l.drop(&f.client, true)
		}
	}
	for _, f := range resets {
		l.close(f, true)
	}
	for _, k := range looks {
		l.look(k)
	}
	if leaving != nil {
		leaving <- l.surrender()
	}
	return !quitting && leaving == nil
}

// end resets what is left.
func (l *loop) end() {
	l.quit()
	l.take()
	for f := range l.live {
		l.close(f, true)
	}
	for _, p := range l.idle {
		p.close()
	}
	unix.Close(l.ep)
	unix.Close(l.event)
}

// ready handles one event, both directions of its socket.
func (l *loop) ready(e *end, events uint32) {
	if events&relayEnded != 0 {
		e.last = true
	}
	// a client that is gone does not wait for the instance to read
	if events&unix.EPOLLERR != 0 && e == &e.flow.client && e.blocked() {
		l.close(e.flow, true)
		return
	}
	ok := events&unix.EPOLLERR == 0 || !e.passed // of an end that is not read any more, nothing else would tell
	if ok && events&unix.EPOLLOUT != 0 && e.to.blocked() {
		ok = l.move(e.to)
	}
	if ok && !e.blocked() && !e.passed {
		ok = l.move(e)
	}
	l.finish(e.flow, ok)
}

// finish ends a flow whose directions have both ended, or one of whose sockets is broken.
func (l *loop) finish(f *flow, ok bool) {
	switch {
	case !ok: // what the other side has said before is still delivered, and no end of stream before the RST
		f.client.passed, f.server.passed = true, true
		l.move(&f.client)
		l.move(&f.server)
		l.close(f, true)
	case f.client.passed && f.server.passed:
		l.close(f, false)
	}
}

// move carries what there is from e to the other end, some rounds at most. It is false when one of
// the sockets is broken.
func (l *loop) move(e *end) bool {
	bulk := false
	for range relayRounds {
		if !e.flush(l) {
			return false
		}
		if e.blocked() {
			return true
		}
		if e.eof {
			if !e.passed {
				e.passed = true
				unix.Shutdown(e.to.fd, unix.SHUT_WR) // fails if it is gone; then reading from there says so
				if e == &e.flow.client {
					l.lookLater(look{e.flow, LookAgain})
				}
			}
			return true
		}
		if bulk {
			if p := l.takePipe(); p != nil {
				more, ok := l.splice(e, p)
				if !ok || !more {
					return ok
				}
				continue
			}
		}
		n, err := rawsys.Recv(e.fd, l.buf[:])
		switch {
		case err == unix.EAGAIN:
			e.last = false
			return true
		case err == unix.EINTR:
			continue
		case err != nil:
			return false
		case n == 0:
			e.eof = true
			continue
		}
		e.flow.heard = e.flow.heard || e == &e.flow.server
		if !e.write(l.buf[:n]) {
			return false
		}
		if n == BufferSize {
			bulk = true
		} else if !e.last && !e.blocked() {
			return true // that was all: epoll tells of more
		}
	}
	if !e.later {
		e.later = true
		l.later = append(l.later, e)
	}
	return true
}

// splice does one round through a pipe. more: there may be more to carry, or an end to pass on.
func (l *loop) splice(e *end, p *pipe) (more, ok bool) {
	n, err := unix.Splice(e.fd, nil, p.w, nil, relayPipe, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	if n <= 0 {
		l.idle = append(l.idle, p)
	}
	switch {
	case err == unix.EAGAIN:
		return false, true
	case err == unix.EINTR:
		return true, true
	case err != nil:
		return false, false
	case n == 0:
		e.eof = true
		return true, true
	}
	p.held, e.pipe = int(n), p
	return true, true
}

// write sends p, and keeps what is not taken.
func (e *end) write(p []byte) bool {
	for len(p) > 0 {
		n, err := rawsys.Send(e.to.fd, p)
		switch {
		case err == unix.EAGAIN:
			e.rest = append([]byte(nil), p...)
			return true
		case err == unix.EINTR:
		case err != nil:
			return false
		default:
			p = p[n:]
		}
	}
	return true
}

// flush sends what was kept, as far as that is taken.
func (e *end) flush(l *loop) bool {
	if rest := e.rest; len(rest) > 0 {
		e.rest = nil
		return e.write(rest)
	}
	for e.pipe != nil {
		n, err := unix.Splice(e.pipe.r, nil, e.to.fd, nil, e.pipe.held, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		switch {
		case err == unix.EAGAIN:
			return true
		case err == unix.EINTR:
		case err != nil || n == 0:
			return false
		default:
			if e.pipe.held -= int(n); e.pipe.held == 0 {
				l.idle = append(l.idle, e.pipe)
				e.pipe = nil
			}
		}
	}
	return true
}

// takePipe returns an empty pipe, or nil if this loop has used its share of descriptors.
func (l *loop) takePipe() *pipe {
	if n := len(l.idle); n > 0 {
		p := l.idle[n-1]
		l.idle = l.idle[:n-1]
		return p
	}
	var fds [2]int
	if l.pipes >= MaxPipes || unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, relayPipe)
	l.pipes++
	return &pipe{r: fds[0], w: fds[1]}
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// close ends a flow. reset: what is under way is thrown away, and the peers get an RST.
func (l *loop) close(f *flow, reset bool) {
	if f.closed {
		return
	}
	f.closed = true
	l.drop(&f.client, reset)
	l.drop(&f.server, reset)
	delete(l.live, f)
	f.done()
}

// drop closes one socket.
func (l *loop) drop(e *end, reset bool) {
	if e.fd < 0 {
		return
	}
	if reset {
		unix.SetsockoptLinger(e.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	if e.fd < len(l.ends) {
		l.ends[e.fd] = nil
	}
	unix.Close(e.fd)
	e.fd = -1
	if e.pipe != nil { // its bytes are nobody's
		e.pipe.close()
		l.pipes--
		e.pipe = nil
	}
}
