//go:build linux

package sockowner

// Sockets that are bound to an interface, and addresses of other hosts. Real sockets of this
// process, on loopback.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
)

func bindToLoopback(_, _ string, raw syscall.RawConn) (err error) {
	if failed := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "lo")
	}); failed != nil {
		return failed
	}
	return err
}

// Such a socket is found by netlink only with the interface's number, by /proc in any case.
func TestBoundToAnInterface(t *testing.T) {
	config := net.ListenConfig{Control: bindToLoopback}
	me := uint32(os.Geteuid())
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := config.Listen(context.Background(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		client, server := connectTo(t, l)
		for name, end := range map[string]net.Conn{"client": client, "server": server} {
			p, err := pairOf(end.(*net.TCPConn))
			if err != nil {
				t.Fatal(err)
			}
			for way, look := range map[string]func(pair) (socket, error){"netlink": diag, "proc": fromProc,
				"both": find} {
				s, err := look(p)
				if err != nil {
					t.Errorf("%s, asked by the %s, %s: %v", address, name, way, err)
					continue
				}
				if uid, err := s.owner(); uid != me || err != nil {
					t.Errorf("%s, asked by the %s, %s: got %d, %v, want %d", address, name, way, uid, err, me)
				}
			}
			if uid, err := Lookup(p.local, p.remote); uid != me || err != nil {
				t.Errorf("%s, asked by the %s: Lookup: %d, %v, want %d", address, name, uid, err, me)
			}
		}
	}
}

// /proc/net/tcp need not be read for them, which takes long on a host with many sockets.
func TestAddressOfAnotherHost(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": false, "127.8.9.10": false, "::1": false, "192.0.2.1": true,
		"2001:db8::1": true} {
		a := netip.MustParseAddr(address)
		if got := isElsewhere(a); got != want {
			t.Errorf("%s: got %v, want %v", a, got, want)
		}
		if !want {
			continue
		}
		_, err := find(pair{local: netip.AddrPortFrom(a, 1), remote: netip.AddrPortFrom(a, 2)})
		if !errors.Is(err, ErrUnknown) || err.Error() != "it is on another host, or in another network namespace" {
			t.Errorf("%s: got %v", a, err)
		}
	}
}
