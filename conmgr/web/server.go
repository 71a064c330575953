package web

// Limits, and which path is whose. The server's goroutines are net/http's, one a connection.

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/conmgr/history"
	"github.com/pgwatchdog/watchdog/conmgr/listen"
	"github.com/pgwatchdog/watchdog/conmgr/metrics"
)

// Limits.
const (
	MostConnections = conf.MostHTTP // at a time, of all ports
	// Of them: with the scrapes, these leave some that can be given up for a health check.
	mostStreams   = 32 // pages that are open
	mostDocuments = 8  // files of the page, and /status
	headerTime    = 5 * time.Second
	answerTime    = 10 * time.Second
	idleTime      = 75 * time.Second
	mostHeader    = 8 << 10                // bytes
	lastTime      = 100 * time.Millisecond // for answers to what was asked before the end
	closeTime     = time.Second
)

//go:embed page
var files embed.FS

// Surroundings are what the server reads, and what it needs to run.
type Surroundings struct {
	Board    *bind.Board
	Registry *bind.Registry
	History  *history.History
	Metrics  *metrics.Metrics
	Events   *event.Hub
	Group    *group.Group
	Now      clock.Clock
}

// Server is made by New. A closed one can be opened again.
type Server struct {
	Surroundings
	started time.Time
	handler http.Handler
	streams streams

	http      *http.Server
	listeners []*listener
	inherited listen.Inherited
	conns     conns
	answering atomic.Int32   // requests for documents
	accepting sync.WaitGroup // goroutines that do
	active    sync.WaitGroup // requests
}

// New makes one that is shut.
func New(s Surroundings) *Server {
	w := &Server{Surroundings: s, started: time.Now()}
	w.streams.server, w.streams.every = w, tick
	w.handler = w.routes()
	return w
}

// askedKey is the key of a request's context by which its connection is found.
type askedKey struct{}

// connOf is the connection of a request.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(askedKey{}).(*conn)
	return c
}

// portOf is the number of the instance whose health_port a request came to, -1: none.
func portOf(r *http.Request) int {
	if c := connOf(r); c != nil {
		return c.of.instance
	}
	return -1
}

// localOf is the address of this host to which a request was sent.
func localOf(r *http.Request) netip.Addr {
	if a, is := r.Context().Value(http.LocalAddrContextKey).(net.Addr); is {
		if ap, err := netip.ParseAddrPort(a.String()); err == nil {
			return ap.Addr().Unmap().WithZone("")
		}
	}
	return netip.Addr{}
}

// routes says which path is whose.
func (s *Server) routes() http.Handler {
	scrape := s.Metrics.Handler(s.Board, s.Registry, s.Now, s.started)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.active.Add(1)
		defer s.active.Done()
		defer s.conns.works(connOf(r))()
		w.Header().Set("Server", "conmgr")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions {
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			http.Error(w, "nothing can be changed by HTTP: GET, HEAD and OPTIONS are answered", http.StatusMethodNotAllowed)
			return
		}
		path, health := r.URL.Path, portOf(r) >= 0
		documents := map[string]http.HandlerFunc{"/metrics": scrape.ServeHTTP, "/stream": s.streams.serve,
			"/status": s.bounded(s.status), "/": s.bounded(page), "/page.js": s.bounded(page), "/style.css": s.bounded(page)}
		serve, is := documents[path]
		switch {
		case isCheck(path), path == "/" && (health || s.isBareCheck(r)):
			s.check(w, r)
		case !is || health: // which has the health of its instance, and no more
			http.NotFound(w, r) // with OPTIONS, too: HAProxy takes whatever else for a sign of health
		case r.Method == http.MethodOptions:
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			w.WriteHeader(http.StatusNoContent)
		default:
			serve(w, r)
		}
	})
}

// bounded serves so many at a time: who takes his answer slowly keeps a connection for long.
func (s *Server) bounded(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer s.answering.Add(-1)
		if s.answering.Add(1) > mostDocuments {
			http.Error(w, "too many requests at this time", http.StatusServiceUnavailable)
			return
		}
		serve(w, r)
	}
}

// page is a file of the page. Nothing of it is loaded from elsewhere.
func page(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	kinds := map[string]string{"": "text/html", "page.js": "text/javascript", "style.css": "text/css"}
	kind := kinds[name]
	if name == "" {
		name = "index.html"
	}
	b, err := files.ReadFile("page/" + name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind+"; charset=utf-8")
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(b)
}

// complaints of net/http go where all else goes.
type complaints struct{ events *event.Hub }

func (complaints) Enabled(context.Context, slog.Level) bool { return true }
func (c complaints) WithAttrs([]slog.Attr) slog.Handler     { return c }
func (c complaints) WithGroup(string) slog.Handler          { return c }

// Handle one.
func (c complaints) Handle(_ context.Context, r slog.Record) error {
	first, _, _ := strings.Cut(strings.TrimSpace(r.Message), "\n")
	c.events.Emit(event.HTTPFailed{Why: fmt.Sprintf("%.200s", first)})
	return nil
}
