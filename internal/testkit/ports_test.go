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

func TestShare(t *testing.T) {
	for which, want := range map[string][2]int{"": {100, 200}, "0/4": {100, 125}, "3/4": {175, 200}, "4/4": {100, 200},
		"nonsense": {100, 200}} {
		if a, b := share(which, 100, 200); [2]int{a, b} != want {
			t.Errorf("%q: %d to %d, want %v", which, a, b, want)
		}
	}
}
