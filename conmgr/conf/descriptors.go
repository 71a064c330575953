package conf

// How many file descriptors a configuration needs. Pure.

import "fmt"

// BaseDescriptors and InstanceDescriptors are the numbers of the guide's rule: the limit is greater
// than 9 + 2 * instances + max_connections.
const (
	BaseDescriptors     = 9
	InstanceDescriptors = 2

	// usualListeners are those that the rule knows: localhost has two addresses, and there is one
	// Unix socket.
	usualListeners = 3

	// With relay ports there are, besides: listeners, the loops' own descriptors, their pipes, and
	// connections that are being made.
	relayReserve = 200
)

// ConnectionLimit returns how many application connections there may be at a time: max_connections,
// or, where that is 0, what the descriptors allow. Heartbeat connections keep theirs: applications
// cannot take them away. With relay ports each connection may need a second one, to the instance.
func ConnectionLimit(limit uint64, instances, maxConnections int, relays bool, listeners int) (int, error) {
	more := max(0, listeners-usualListeners)
	reserved, each := BaseDescriptors+InstanceDescriptors*instances+more, 1
	rule := "9 + 2 * (number of instances) + max_connections"
	if relays {
		reserved, each = reserved+relayReserve, 2
		rule = fmt.Sprintf("9 + 2 * (number of instances) + %d + 2 * max_connections, as there are relay ports",
			relayReserve)
	}
	if more > 0 {
		rule += fmt.Sprintf(", and %d for addresses of listen_addresses and Unix sockets beyond the default ones, HTTP and event_command", more)
	}
	need := uint64(reserved) + uint64(each)*uint64(maxConnections)
	if limit <= need {
		return 0, &StartError{
			Text: fmt.Sprintf("the limit of %d open file descriptors is too low: %d instances and max_connections = %d need more than %d",
				limit, instances, maxConnections, need),
			Detail: "The limit must be greater than " + rule + ".",
			Hint:   `Raise it ("ulimit -n", or LimitNOFILE of the service), or lower max_connections.`,
		}
	}
	if maxConnections > 0 {
		return maxConnections, nil
	}
	return int(max(1, min((limit-uint64(reserved))/uint64(each), 1<<30))), nil
}

// Descriptors tells how many file descriptors a configuration needs more than, and for how many
// applications a limit has room.
func Descriptors(c *Config, limit uint64) (needed uint64, places int) {
	more := max(0, CountListeners(c)-usualListeners)
	needed = uint64(BaseDescriptors + InstanceDescriptors*len(c.Instances) + more + c.MaxConnections)
	if len(c.RelayPorts) > 0 {
		needed += uint64(relayReserve + c.MaxConnections)
	}
	places, err := ConnectionLimit(limit, len(c.Instances), c.MaxConnections, len(c.RelayPorts) > 0, CountListeners(c))
	if err != nil {
		places = 0
	}
	return needed, places
}

// CountListeners is how many sockets the configuration opens for applications, as far as that is
// known without a look-up, and what is as many: HTTP and event_command.
func CountListeners(c *Config) int {
	return len(c.SocketDirs) + countAddresses(c.ListenAddresses) + watchers(c)
}

func countAddresses(names []string) (n int) {
	for _, name := range names {
		if n++; name == "*" || name == "localhost" {
			n++ // of IPv4 and IPv6
		}
	}
	return n
}

// MostHTTP is how many connections there may be by HTTP at a time, of all ports.
const MostHTTP = 64

// hookDescriptors are those of a command that runs: its pipes, and what is being made.
const hookDescriptors = 8

// watchers is how many descriptors http and event_command may need.
func watchers(c *Config) (n int) {
	ports := 0
	if c.HTTPPort != 0 {
		ports++
	}
	for i := range c.Instances {
		if c.Instances[i].HealthPort != 0 {
			ports++
		}
	}
	if ports > 0 {
		n += MostHTTP + ports*countAddresses(c.HTTPAddresses)
	}
	if c.EventCommand != "" {
		n += hookDescriptors
	}
	return n
}
