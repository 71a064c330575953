package console

import (
	"net"
	"syscall"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// A test of who may have conmgr forget.

// noSocket is a connection of which the kernel knows nothing.
type noSocket struct{ net.Conn }

func (noSocket) CloseWrite() error                     { return nil }
func (noSocket) SyscallConn() (syscall.RawConn, error) { return nil, net.ErrClosed }

// Somebody unknown cannot have it forget.
func TestForgetIsForTheKnown(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s := &session{service: &Service{mayForget: func(uint32) bool { return true }}, conn: noSocket{a}}
	if _, err := s.forget(-1); err == nil || err.(*backend.Error).Code != "42501" {
		t.Errorf("got %v", err)
	}
}
