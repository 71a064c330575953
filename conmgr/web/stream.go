package web

// Server-sent events: the document of /status, when something has happened, and each second. One
// goroutine makes it, while anybody looks; each connection's own one writes it. A browser that takes
// nothing gets the latest one later, and is closed if it takes too long.

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

const (
	tick = time.Second
	// gap is the least time between two: what happens at once is shown at once, and much of it
	// together.
	gap = 100 * time.Millisecond
)

// streams are those who look.
type streams struct {
	server *Server
	every  time.Duration // between two, at most

	mu      sync.Mutex
	all     map[chan []byte]struct{} // each has room for one
	endMake func()                   // ends the goroutine that makes documents; nil: there is none
	over    chan struct{}            // closed at the end of the server, for all of these; nil: there was none
}

// Tick is how often a page is told though nothing happens; of tests, before it is open.
func (s *Server) Tick(every time.Duration) { s.streams.every = every }

// serve is one of them, until it leaves or the server ends.
func (s *streams) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	next := make(chan []byte, 1)
	over := s.enter(next)
	if over == nil {
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	defer s.leave(next)
	c := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	_ = c.SetReadDeadline(time.Time{})
	for {
		select {
		case b := <-next:
			_ = c.SetWriteDeadline(time.Now().Add(answerTime))
			if _, err := w.Write(b); err != nil {
				return
			}
			if err := c.Flush(); err != nil {
				return
			}
		case <-r.Context().Done():
			return
		case <-over:
			return
		}
	}
}

// enter adds one, who gets a document at once, until what is returned is closed. nil: there are too
// many.
func (s *streams) enter(next chan []byte) (over <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= mostStreams {
		return nil
	}
	if s.over == nil {
		s.over = make(chan struct{})
	}
	grown := s.server.History.Grown() // before the document is made: what comes meanwhile is shown next
	next <- s.message()
	if s.all == nil {
		s.all = map[chan []byte]struct{}{}
	}
	s.all[next] = struct{}{}
	if s.endMake == nil {
		ctx, cancel := context.WithCancel(context.Background())
		s.endMake = cancel
		s.server.Group.Go("http stream", func() { s.make(ctx, grown) })
	}
	return s.over
}

// leave takes one away. For nobody, nothing is made.
func (s *streams) leave(next chan []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, next)
	if len(s.all) == 0 {
		s.endWithLock()
	}
}

// end is called when the server is closed.
func (s *streams) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endWithLock()
	if s.over != nil {
		close(s.over)
		s.over = nil
	}
}

func (s *streams) endWithLock() {
	if s.endMake != nil {
		s.endMake()
		s.endMake = nil
	}
}

// make makes documents until ctx ends. grown is closed when there is more than in the first one.
func (s *streams) make(ctx context.Context, grown <-chan struct{}) {
	t := time.NewTicker(s.every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-grown:
		}
		grown = s.server.History.Grown() // before the document is made, as above
		s.tell(s.message())
		pause := time.NewTimer(gap)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// tell leaves a document for all. One that was not taken yet is replaced.
func (s *streams) tell(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for next := range s.all {
		select {
		case <-next:
		default:
		}
		next <- b
	}
}

// message is the document as a message of a stream.
func (s *streams) message() []byte {
	b, err := json.Marshal(s.server.document())
	if err != nil {
		b = []byte("{}")
	}
	return append(append([]byte("data: "), b...), '\n', '\n')
}
