package web

// Ports: they are opened, served, and shut; and they stay open over a restart in place, so that no
// health check is refused meanwhile. Called by the main goroutine; Close waits for requests for a
// second.

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/listen"
)

// Inherit tells which ports are open already, before Open.
func (s *Server) Inherit(open listen.Inherited) { s.inherited = open }

// Open opens the ports of a conmgr.conf. Who asks waits until they are served.
func (s *Server) Open(ctx context.Context, c *conf.Config) error {
	err := s.open(ctx, c)
	if err != nil && s.inherited != nil { // other addresses: all of them need not be free beside those of before
		s.Close()
		s.inherited.Close()
		err = s.open(ctx, c)
	}
	s.inherited.Close()
	if err != nil {
		s.Close()
		return err
	}
	if len(s.listeners) == 0 {
		return nil
	}
	s.http = &http.Server{Handler: s.handler, ReadHeaderTimeout: headerTime, ReadTimeout: answerTime,
		WriteTimeout: answerTime, IdleTimeout: idleTime, MaxHeaderBytes: mostHeader,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is no sign of health, either
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, askedKey{}, c)
		},
		ErrorLog: slog.NewLogLogger(complaints{s.Events}, slog.LevelError)}
	var addresses []string
	for _, l := range s.listeners {
		addresses = append(addresses, l.Addr().String())
	}
	s.Events.Emit(event.HTTPOpen{Addresses: addresses})
	return nil
}

func (s *Server) open(ctx context.Context, c *conf.Config) error {
	open := func(port, instance int) error {
		if port == 0 {
			return nil
		}
		all, err := listen.Open(ctx, "http_listen_addresses", c.HTTPAddresses, port, s.inherited.Take)
		for _, l := range all {
			s.listeners = append(s.listeners, &listener{l, s, instance})
		}
		return err
	}
	err := open(c.HTTPPort, -1)
	for i := range c.Instances {
		if err == nil {
			err = open(c.Instances[i].HealthPort, c.Instances[i].Number)
		}
	}
	return err
}

// Serve answers.
func (s *Server) Serve() {
	server := s.http
	for _, l := range s.listeners {
		s.accepting.Add(1)
		s.Group.Go("http", func() {
			defer s.accepting.Done()
			_ = server.Serve(l)
		})
	}
}

// Addr is that of the n-th port: those of http_port come first, then each instance's.
func (s *Server) Addr(n int) net.Addr { return s.listeners[n].Addr() }

// Leave is Close, and leaves the ports open for the next process. One that cannot be left is opened
// anew.
func (s *Server) Leave() (open listen.Inherited) {
	for _, l := range s.listeners {
		_ = open.Add(l.Listener)
	}
	s.Close()
	return open
}

// Close shuts all ports and ends all connections.
func (s *Server) Close() {
	for _, l := range s.listeners {
		_ = l.Listener.Close()
	}
	s.listeners = nil
	if s.http == nil {
		return
	}
	s.accepting.Wait() // whoever was accepted is known to the server then
	s.streams.end()
	// Who has asked, or is just about to, gets his answer: http.Server.Shutdown would close the latter.
	s.http.SetKeepAlivesEnabled(false)
	select {
	case <-s.conns.none():
	case <-time.After(lastTime):
	}
	_ = s.http.Close()
	s.http = nil
	over := make(chan struct{})
	s.Group.Go("http's end", func() {
		s.active.Wait()
		close(over)
	})
	select {
	case <-over:
	case <-time.After(closeTime):
	}
}
