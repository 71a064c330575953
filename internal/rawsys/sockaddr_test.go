package rawsys

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// A link-local address is one of an interface.
func TestSockaddr(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for text, zone := range map[string]uint32{"fe80::1%lo": uint32(lo.Index), "fe80::1%7": 7, "fe80::1%none": 0, "::1": 0} {
		addr := netip.MustParseAddr(text)
		sa, is := Sockaddr(addr, 4711).(*unix.SockaddrInet6)
		if !is || sa.ZoneId != zone || sa.Port != 4711 || sa.Addr != addr.As16() {
			t.Errorf("%s: %+v, want interface %d", text, sa, zone)
		}
	}
	if sa, is := Sockaddr(netip.MustParseAddr("192.0.2.1"), 4711).(*unix.SockaddrInet4); !is || sa.Port != 4711 || sa.Addr != [4]byte{192, 0, 2, 1} {
		t.Errorf("%+v", sa)
	}
}
