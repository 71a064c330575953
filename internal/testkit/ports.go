package testkit

// Ports to listen at. Any goroutine; blocks on nothing.

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
)

// Below this range no kernel gives a port to a connection that goes out: a port chosen there stays
// free until its server starts. The rest of the machine may be busy.
const (
	lowestPort  = 10000
	portRange   = "/proc/sys/net/ipv4/ip_local_port_range"
	usualBottom = 32768

	portsVariable = "WATCHDOG_TEST_PORTS" // set by internal/suite
)

var chosenPorts = struct {
	sync.Mutex
	m map[int]bool
}{m: make(map[int]bool)}

// FreePorts returns n different ports that nobody listens at, and that no earlier call of this
// process has returned.
func FreePorts(n int) ([]int, error) {
	bottom := usualBottom
	if b, err := os.ReadFile(portRange); err == nil {
		fmt.Sscan(string(b), &bottom)
	}
	if bottom < lowestPort+1000 { // an unusual machine: anything will do
		bottom = 65536
	}
	lowest, bottom := share(os.Getenv(portsVariable), lowestPort, bottom)
	chosenPorts.Lock()
	defer chosenPorts.Unlock()
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		if tries == 1000 {
			return nil, errors.New("no free ports were found on loopback")
		}
		port := lowest + rand.IntN(bottom-lowest)
		if !chosenPorts.m[port] && isFree(port) {
			chosenPorts.m[port] = true
			ports = append(ports, port)
		}
	}
	return ports, nil
}

// share is the part of a range that "1/5", the second of five processes side by side, may use: a
// port is free until its server starts, and two could choose the same.
func share(which string, lowest, bottom int) (int, int) {
	var i, n int
	if _, err := fmt.Sscanf(which, "%d/%d", &i, &n); err != nil || i < 0 || i >= n {
		return lowest, bottom
	}
	size := (bottom - lowest) / n
	return lowest + i*size, lowest + (i+1)*size
}

// isFree tries all addresses, as the watchdog listens at all of them; a machine without IPv6 has no
// say about that.
func isFree(port int) bool {
	for _, network := range []string{"tcp4", "tcp6"} {
		l, err := net.Listen(network, ":"+strconv.Itoa(port))
		if err == nil {
			l.Close()
		} else if network == "tcp4" {
			return false
		}
	}
	return true
}
