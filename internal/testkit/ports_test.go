package testkit

import (
	"net"
	"slices"
	"testing"
)

func TestFreePorts(t *testing.T) {
	ports, err := FreePorts(5)
	if err != nil || len(ports) != 5 {
		t.Fatalf("got %v, %v, want 5 ports", ports, err)
	}
	slices.Sort(ports)
	if len(slices.Compact(ports)) != 5 {
		t.Error("a port was given twice")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if port := l.Addr().(*net.TCPAddr).Port; isFree(port) {
		t.Errorf("port %d is taken, and was called free", port)
	}
}
