package conf

// The one table of all parameters of conmgr.conf. The parser, SHOW CONFIG, the sample file and the
// manual page are made from it. Pure data, read by any goroutine.

import (
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
)

// ParamType says how a value is written.
type ParamType uint8

const (
	Integer  ParamType = iota
	Duration           // an integer in seconds, or with a unit: ms, s, min, h, d
	String
	Names     // a string: names separated by commas
	Hosts     // the same, each a host name or an IP address; * is all addresses
	HostName  // a string that may name a host
	IPAddress // a string that must be an IP address
	List      // a string: names of Values, separated by commas
	Enum      // one of Values
	Boolean   // on or off, as a PostgreSQL server understands it
	Networks  // a list of networks, as in 192.0.2.0/24
	Octal     // permissions of a file, as chmod(1) has them
)

// Param describes one parameter: the parser, Config, SHOW CONFIG, the sample file, the manual's test
// and `conmgr --check` follow from it.
type Param struct {
	Name     string // in lower case; of a numbered one without its number
	Type     ParamType
	Numbered bool   // an instance number follows the name
	Min, Max int64  // of Integer; of Duration in milliseconds
	Also     string // one more value that is allowed
	Default  string // as it would be written
	Values   []string
	Doc      string // one line

	Reloadable bool // takes effect at a reload; none does yet, all at a restart

	// One of these: where the value goes, by a pointer of its type. Numbered ones have instance.
	target   func(*written) any
	instance func(*Instance) any
	// check is what the type does not say. Its error is the text of what is allowed.
	check func(string) error
}

// written is a Config, and values that are no field of it as they are written.
type written struct {
	*Config
	socketDirs      []string
	logDestinations []string
	relayPorts      [7]int // by the order of cm.Attributes
}

// Bounds of a heartbeat duration in milliseconds.
const (
	minDuration = int64(10)
	maxDuration = int64(2147483) * int64(time.Second/time.Millisecond)
)

// Params is the table, in the order in which people want to read it.
var Params = []Param{
	{Name: "port", Type: Integer, Min: 1, Max: 65535, Default: "27546",
		Doc:    "port on which conmgr listens for applications",
		target: func(w *written) any { return &w.Port }},
	{Name: "listen_addresses", Type: Hosts, Default: "localhost",
		Doc:    "addresses on which conmgr listens, separated by commas; * is all of them",
		target: func(w *written) any { return &w.ListenAddresses }},
	{Name: "unix_socket_directories", Type: Names, Default: ".",
		Doc:    "directories of the Unix sockets, separated by commas; . is that of conmgr.conf, and '' none",
		target: func(w *written) any { return &w.socketDirs }},
	{Name: "unix_socket_permissions", Type: Octal, Min: 0, Max: 0o777, Default: "0777",
		Doc:    "permissions of the Unix sockets: who may write to one can connect",
		target: func(w *written) any { return &w.SocketMode }},
	{Name: "max_connections", Type: Integer, Min: 0, Max: 2147483647, Default: "0",
		Doc:    "most application connections at a time, relayed ones included; 0: as many as file descriptors allow",
		target: func(w *written) any { return &w.MaxConnections }},
	{Name: "max_user_connections", Type: Integer, Min: 0, Max: 2147483647, Default: "0",
		Doc:    "most connections of one local user at a time; 0: all of max_connections, or three quarters if that is 0",
		target: func(w *written) any { return &w.MaxUserConnections }},
	{Name: "idle_timeout", Type: Duration, Min: 0, Max: maxDuration, Default: "1h",
		Doc:    "idle time after which a connection that is bound to no instance is ended; 0: none",
		target: func(w *written) any { return &w.IdleTimeout }},

	{Name: "relay_port_any", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc:    "port whose connections are carried to an instance, whichever; 0: none",
		target: relayPort(0)},
	{Name: "relay_port_read_write", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc:    "port whose connections are carried to the primary, unless it is read only by default; 0: none",
		target: relayPort(1)},
	{Name: "relay_port_read_only", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc:    "port whose connections are carried to a standby, or an instance that is read only by default; 0: none",
		target: relayPort(2)},
	{Name: "relay_port_primary", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc:    "port whose connections are carried to the primary; 0: none",
		target: relayPort(3)},
	{Name: "relay_port_standby", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc:    "port whose connections are carried to a standby; 0: none",
		target: relayPort(4)},
	{Name: "relay_port_prefer_standby", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc:    "port whose connections are carried to a standby, else to any instance; 0: none",
		target: relayPort(5)},
	{Name: "relay_port_prefer_read", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc:    "the same as relay_port_prefer_standby, by its old name; 0: none",
		target: relayPort(6)},
	{Name: "relay_allowed_networks", Type: Networks, Default: "",
		Doc:    "networks, beside this host, whose clients may use the relay ports, separated by commas",
		target: func(w *written) any { return &w.RelayNetworks }},
	{Name: "destroy_sockets", Type: Boolean, Default: "off",
		Doc:    "abort all TCP connections of this host to a lost instance; needs CAP_NET_ADMIN",
		target: func(w *written) any { return &w.DestroySockets }},

	{Name: "backend_host", Type: HostName, Numbered: true, Default: "",
		Doc:      "host name or IP address of the instance; resolved again at each connection attempt",
		instance: func(in *Instance) any { return &in.Host }},
	{Name: "backend_hostaddr", Type: IPAddress, Numbered: true, Default: "",
		Doc:      "IP address of the instance, used instead of backend_host: no name resolution",
		instance: func(in *Instance) any { return &in.HostAddr }},
	{Name: "backend_port", Type: Integer, Numbered: true, Min: 1, Max: 65535, Default: "27500",
		Doc:      "port of the instance's postmaster",
		instance: func(in *Instance) any { return &in.Port }},
	{Name: "watchdog_port", Type: Integer, Numbered: true, Min: 1, Max: 65535, Default: "27545",
		Doc:      "port of the instance's watchdog worker: watchdog.port in its postgresql.conf",
		instance: func(in *Instance) any { return &in.WatchdogPort }},

	{Name: "heartbeat_interval", Type: Duration, Min: minDuration, Max: maxDuration, Default: "10",
		Doc:    "time between two heartbeats, for both directions",
		target: func(w *written) any { return &w.HeartbeatInterval }},
	{Name: "heartbeat_timeout", Type: Duration, Min: minDuration, Max: maxDuration, Default: "20",
		Doc:    "silence after which the other side is declared lost; greater than heartbeat_interval",
		target: func(w *written) any { return &w.HeartbeatTimeout }},
	{Name: "heartbeat_connect_interval", Type: Duration, Min: minDuration, Max: maxDuration, Default: "1",
		Doc:    "time from a failed heartbeat connection attempt to the next",
		target: func(w *written) any { return &w.ConnectInterval }},
	{Name: "heartbeat_connect_timeout", Type: Duration, Min: minDuration, Max: maxDuration, Default: "10",
		Doc:    "limit of one attempt, from name resolution to the watchdog's answer",
		target: func(w *written) any { return &w.ConnectTimeout }},
	{Name: "standby_timeline_grace", Type: Duration, Min: 0, Max: maxDuration, Also: "-1", Default: "60",
		Doc:    "time for which a standby of an older timeline is offered after a promotion; 0: not at all, -1: for ever",
		target: func(w *written) any { return &w.StandbyTimelineGrace }},

	{Name: "log_destination", Type: List, Values: []string{"stderr", "syslog"}, Default: "stderr",
		Doc:    "where messages go, separated by commas",
		target: func(w *written) any { return &w.logDestinations }},
	{Name: "syslog_facility", Type: Enum, Default: "LOCAL0",
		Values: []string{"LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7"},
		Doc:    "facility of messages sent to syslog",
		target: func(w *written) any { return &w.SyslogFacility }},
	{Name: "syslog_ident", Type: String, Default: "conmgr",
		Doc:    "program name of messages sent to syslog",
		target: func(w *written) any { return &w.SyslogIdent }, check: printable},
	{Name: "log_min_messages", Type: Enum, Values: cmlog.LevelNames[:], Default: "WARNING",
		Doc:    "lowest level that is output; the levels are ordered as listed",
		target: func(w *written) any { return &w.LogMinMessages }},
}

// relayParam is the name of the parameter with an attribute's relay port.
func relayParam(a cm.Attribute) string {
	return "relay_port_" + strings.ReplaceAll(string(a), "-", "_")
}

func relayPort(i int) func(*written) any {
	return func(w *written) any { return &w.relayPorts[i] }
}

func findParam(name string) *Param {
	for i := range Params {
		if Params[i].Name == name {
			return &Params[i]
		}
	}
	return nil
}
