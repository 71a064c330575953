package conf

// The one table of all parameters of conmgr.conf. The parser, SHOW CONFIG, the sample file and the
// manual page are made from it. Pure data, read by any goroutine.

import (
	"strings"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/internal/duration"
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
	Lag       // how far a standby may be behind: a size or a duration with its unit, or empty
)

// Param describes one parameter: the parser, Config, SHOW CONFIG, the sample file, its entry in the
// manual and `conmgr --check` follow from it.
type Param struct {
	Name     string // in lower case; of a numbered one without its number
	Type     ParamType
	Numbered bool   // an instance number follows the name
	Min, Max int64  // of Integer; of Duration in milliseconds
	Also     string // one more value that is allowed
	Default  string // as it would be written
	Values   []string
	Doc      string // one line, of the sample file
	Manual   string // paragraphs of the manual, in the markup of manual.go: range and default are added
	Added    bool   // to the Connection Manager User Guide

	Context Context // how a change takes effect

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
	maxDuration = duration.Most
)

// Params is the table, in the order in which people want to read it.
var Params = []Param{
	{Name: "port", Type: Integer, Context: Postmaster, Min: 1, Max: 65535, Default: "27546",
		Doc:    "port on which conmgr listens for applications",
		Manual: `The TCP port on which *conmgr* listens for connections of applications, and of *cm_ctl status*.`,
		target: func(w *written) any { return &w.Port }},
	{Name: "listen_addresses", Type: Hosts, Context: Postmaster, Default: "localhost",
		Doc: "addresses on which conmgr listens, separated by commas; * is all of them",
		Manual: `The addresses on which *conmgr* listens: host names and IP addresses, separated by commas, or
*** for all; *localhost* is the loopback addresses. A Connection Manager is meant for the
applications of its own host: nothing would tell an application elsewhere that this host, or the
way to it, has died. There is neither encryption nor authentication.`,
		Added:  true,
		target: func(w *written) any { return &w.ListenAddresses }},
	{Name: "unix_socket_directories", Type: Names, Context: Postmaster, Default: ".",
		Doc: "directories of the Unix sockets, separated by commas; . is that of conmgr.conf, and '' none",
		Manual: `The directories of the Unix sockets on which *conmgr* listens for connections of applications,
separated by commas, in quotes. An empty string is none. A relative path begins at the directory
of *conmgr.conf*, and a name that begins with *@* is an abstract socket, as in
*postgresql.conf*. *.* is the directory of *conmgr.conf* itself.

The socket is the file *.s.PGSQL.*<port> in the directory, and a file *.s.PGSQL.*<port>*.lock*
stands beside it while *conmgr* runs. Those of a process that has not ended in order are
replaced; if a living process has them, *conmgr* does not start, and names its PID. An
application gives the directory as the host: "*host=/run/conmgr/main port=27546*". Its user must be
able to search the directory (the one of *conmgr.conf* often has the mode 0700).

The path of the socket has at most 107 bytes. If that of the default directory is longer, or no
socket can be opened there, *conmgr* warns and starts without; for a directory that is set, it
is an error.

By a Unix socket either side is told by the kernel who the other one is.`,
		Added:  true,
		target: func(w *written) any { return &w.socketDirs }},
	{Name: "unix_socket_permissions", Type: Octal, Context: Postmaster, Min: 0, Max: 0o777, Default: "0777",
		Doc: "permissions of the Unix sockets: who may write to one can connect",
		Manual: `The permissions of the socket files, in octal: who may write to one can connect. *0770* lets in
the group of *conmgr* only, and *0700* its user only. By default that is everybody who can
search the directory.`,
		Added:  true,
		target: func(w *written) any { return &w.SocketMode }},
	{Name: "max_connections", Type: Integer, Min: 0, Max: 2147483647, Default: "0",
		Doc: "most application connections at a time, relayed ones included; 0: as many as file descriptors allow",
		Manual: `The maximum number of simultaneous connections to *conmgr*. A connection over this number is
closed without an error message to the client, and the fact is logged at the level LOG. 0 is no
limit but that of file descriptors. The operating system's limit of open file descriptors
(*ulimit -n*) must be greater than 9 + 2 × number of instances + *max_connections*; with relay
ports, greater than 209 + 2 × number of instances + 2 × *max_connections*; by one more for each
address and Unix socket that is listened on beyond the default ones; with *http_port* or a
*health_port*, by 64 and one for each of their addresses; and with *event_command*, by 8. Otherwise
*conmgr* does not start.

By the Unix socket, *conmgr*'s own user and root have three places more: *cm_ctl status* asks
there.`,
		target: func(w *written) any { return &w.MaxConnections }},
	{Name: "max_user_connections", Type: Integer, Min: 0, Max: 2147483647, Default: "0",
		Doc: "most connections of one local user at a time; 0: all of max_connections, or three quarters if that is 0",
		Manual: `The maximum number of simultaneous connections of one user of this host (or from one address
elsewhere), relayed ones included. A connection over this number is refused with an error
(SQLSTATE 53300). By a Unix socket, *conmgr*'s own user and root have no such limit. 0 is no
limit below *max_connections*, or, if that is 0 too, three quarters of what the file descriptors
allow.`,
		Added:  true,
		target: func(w *written) any { return &w.MaxUserConnections }},
	{Name: "idle_timeout", Type: Duration, Context: Live, Min: 0, Max: maxDuration, Default: "1h",
		Doc: "idle time after which a connection that is bound to no instance is ended; 0: none",
		Manual: `A connection that is bound to no instance, and has said nothing for this time, is ended with an
error (SQLSTATE 57P05). Connections that are bound to an instance, and relayed ones, are never
ended for being idle. 0 is no limit.`,
		Added:  true,
		target: func(w *written) any { return &w.IdleTimeout }},
	{Name: "admin_users", Type: Names, Context: Live, Default: "",
		Doc: "users of this host, beside root and conmgr's own, who may have it forget and drain, separated by commas",
		Manual: `Users of this host who may do on the console what root and the user who runs *conmgr* may: DRAIN,
UNDRAIN and FORGET, and look at the connections of all users. Names or numbers, separated by commas,
in quotes. Names are those of */etc/passwd*; for a user of a directory service, give the number. The
kernel tells whose a connection is, by a Unix socket and by TCP within this host; who connects from
another host is nobody's.`,
		Added: true, check: users("names and numbers of users, separated by commas"),
		target: func(w *written) any { return &w.AdminUsers }},
	{Name: "stats_users", Type: Names, Context: Live, Default: "",
		Doc: "users of this host who may look at the connections of others, separated by commas; * is everybody",
		Manual: `Users of this host who see all rows of *SHOW APPLICATIONS* and *SHOW WAITING*, written as in
*admin_users*, who are among them, as are root and the user who runs *conmgr*. Others see the
connections of their own user only; from another host, those of their own address. *** is everybody,
whose ever a connection is.`,
		Added: true, check: users("names and numbers of users, separated by commas, or *", Everybody),
		target: func(w *written) any { return &w.StatsUsers }},
	{Name: "target_wait", Type: Duration, Context: Live, Min: 0, Max: maxDuration, Default: "0",
		Doc: "time for which an application waits while no instance has the attribute that it wants; 0: it does not",
		Manual: `How long an application waits that asks for an instance while none has the attribute, because the
primary is being replaced for example, before it gets an error. As soon as there is one, all go
that wait for it: 100 at once, then 1000 a second, in the order in which they have asked. 0: the
error comes at once. It holds for relay ports as well, and for those who do not say themselves for
how long they wait: by the clause WAIT of *SHOW TARGET*, or, in the options of the connection to
*conmgr*, by *-c conmgr.target_wait=5s*.`,
		Added:  true,
		target: func(w *written) any { return &w.TargetWait }},
	{Name: "max_waiting", Type: Integer, Min: 0, Max: 2147483647, Default: "1000",
		Doc: "most connections that wait for an instance at a time; further ones get an error",
		Manual: `The maximum number of connections that wait for an instance at a time; one more gets an error
(SQLSTATE 53300). 0: none waits. So that one user does not keep the others out, a quarter more may
wait of users of whom fewer than a sixteenth of this number do. Those that wait do not count for *max_connections* and
*max_user_connections*, and are counted when they have their instance: whoever has waited in vain
for a place then is told so, and closed. They have no more than half of the connections that file
descriptors allow. *SHOW WAITING* lists them.`,
		Added:  true,
		target: func(w *written) any { return &w.MaxWaiting }},

	{Name: "relay_port_any", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc: "port whose connections are carried to an instance, whichever; 0: none",
		Manual: `A port whose connections are carried to an instance, whichever (but not to a primary that is
outdated: one of a lower timeline than another). 0 is none.`,
		target: relayPort(0)},
	{Name: "relay_port_read_write", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc: "port whose connections are carried to the primary, unless it is read only by default; 0: none",
		Manual: `A port whose connections are carried to the primary, unless it is read only by default. 0 is
none.`,
		target: relayPort(1)},
	{Name: "relay_port_read_only", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc: "port whose connections are carried to a standby, or an instance that is read only by default; 0: none",
		Manual: `A port whose connections are carried to a standby, or an instance that is read only by default.
0 is none.`,
		target: relayPort(2)},
	{Name: "relay_port_primary", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc:    "port whose connections are carried to the primary; 0: none",
		Manual: `A port whose connections are carried to the primary. 0 is none.`,
		target: relayPort(3)},
	{Name: "relay_port_standby", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc:    "port whose connections are carried to a standby; 0: none",
		Manual: `A port whose connections are carried to a standby. 0 is none.`,
		target: relayPort(4)},
	{Name: "relay_port_prefer_standby", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc: "port whose connections are carried to a standby, else to any instance; 0: none",
		Manual: `A port whose connections are carried to a standby, or to any instance if there is none. 0 is
none.`,
		target: relayPort(5)},
	{Name: "relay_port_prefer_read", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc:    "the same as relay_port_prefer_standby, by its old name; 0: none",
		Manual: `The same as *relay_port_prefer_standby*, by the old name of that attribute. 0 is none.`,
		target: relayPort(6)},
	{Name: "relay_allowed_networks", Type: Networks, Context: Live, Default: "",
		Doc: "networks, beside this host, whose clients may use the relay ports, separated by commas",
		Manual: `The networks whose clients may use the relay ports, beside those of this host: in CIDR notation,
or single addresses, separated by commas, in quotes, as in '*192.0.2.0/24,2001:db8::/32*'.
Others are closed at once, and the log tells. To the instance such a client has the address of
<this> host: what *pg_hba.conf* allows to this host, it allows to all of these networks.`,
		Added:  true,
		target: func(w *written) any { return &w.RelayNetworks }},
	{Name: "notify_loss", Type: Boolean, Default: "on",
		Doc: "whether applications are told of the loss of their instance; off: it is only logged and counted",
		Manual: `With *off* *conmgr* decides as ever that an instance is lost, and sends nobody there, but tells
nobody who is connected to it: no connection is ended, relayed ones are not reset, and
*destroy_sockets* does nothing. What would have been done is in the log and among the events
(*would_have_told*), and counted by *SHOW STATS* and the metrics. It is for trying the Connection
Manager in production; *watchdog.terminate* is its like on the servers, which are told nothing of such a loss either. Who is connected then waits
as long as without a Connection Manager when an instance has died.`,
		Added:  true,
		target: func(w *written) any { return &w.NotifyLoss }},

	{Name: "destroy_sockets", Type: Boolean, Default: "off",
		Doc: "abort all TCP connections of this host to a lost instance; needs CAP_NET_ADMIN",
		Manual: `When an instance is lost, *conmgr* has the kernel abort all TCP connections of this host
(strictly: of its network namespace) to the address and *backend_port* of that instance, and no
others. Every application that waits for the lost instance gets an error at once (ECONNABORTED,
"<Software caused connection abort>"), whatever its driver, and connected directly. It happens
once, at the verdict; what connects afterwards is left alone.

The addresses are all those that *backend_host* had when the heartbeat connection was
established, but for one at which another instance is alive. If the instance is lost because it
was restarted, sessions that have been opened since then are hit as well.

*conmgr* needs the capability CAP_NET_ADMIN for this, and a kernel with
CONFIG_INET_DIAG_DESTROY; otherwise it does not start. Give it to its *systemd*(1) service
(*AmbientCapabilities*; the unit file tells which lines). File capabilities (*setcap*) are
refused on a program that everybody may run, as every local user could run it with a
configuration of his own, and abort the connections of others; a program that only the group of
*conmgr* may run (mode 0750) is accepted. *conmgr* still refuses to run as root.`,
		Added:  true,
		target: func(w *written) any { return &w.DestroySockets }},

	{Name: "http_port", Type: Integer, Min: 0, Max: 65535, Default: "0",
		Doc: "port for metrics (Prometheus), health checks and a page for people, by HTTP; 0: none",
		Manual: `A port on which *conmgr* answers HTTP: */metrics* for Prometheus, */status* (JSON), */* (a page
that shows it live), and health checks by the paths of Patroni's REST API, for load balancers:
*/primary*, */replica?lag=*, */read-only*, */liveness*, */readiness* and others; see the operations
manual. Nothing can be changed by it. There is neither encryption nor authentication: whoever
reaches the port sees instances, events, and the names and numbers (not the users and addresses) of
applications. 0 is none.`,
		Added:  true,
		target: func(w *written) any { return &w.HTTPPort }},
	{Name: "http_listen_addresses", Type: Hosts, Default: "localhost",
		Doc: "addresses on which http_port and health_port are listened on, separated by commas; * is all of them",
		Manual: `The addresses on which *http_port* and the *health_port* of each instance are listened on, as in
*listen_addresses*.`,
		Added:  true,
		target: func(w *written) any { return &w.HTTPAddresses }},
	{Name: "event_history", Type: Integer, Min: 10, Max: 100000, Default: "1000",
		Doc: "number of events that are kept, for SHOW EVENTS, cm_ctl events and the page of http_port",
		Manual: `How many events are kept in memory: losses and changes of instances, what applications were told,
drains, refusals and the like, all that the log has at the level NOTICE and above. *cm_ctl events*
and *SHOW EVENTS* tell them, and the page of *http_port* the last ones. One takes some 300 bytes.`,
		Added:  true,
		target: func(w *written) any { return &w.EventHistory }},
	{Name: "event_command", Type: String, Context: Live, Default: "",
		Doc: "shell command that is run for each event, with the event as JSON on its standard input; empty: none",
		Manual: `A shell command (*/bin/sh -c*) that is run for each of these events, as the user who runs *conmgr*,
in the directory of *conmgr.conf*. Its standard input is a line of JSON with *number* (it rises, also
over restarts), *time*, *event* (*lost*, *established*, *attributes_changed*, *presence_changed* and
others), *level*, *text*, and, where they apply, *instance*, *host*, *port*, *reason*, *detail*, *hint*
and *repeated*.

One command runs at a time, and others wait for it, 100 at most: more are left out. None of that
holds up a heartbeat. If one fails, the log tells, with the beginning of what it has written. One that
runs when *conmgr* is restarted in place, or reloaded, goes on; when *conmgr* ends, it ends. Empty is
none.`,
		Added:  true,
		target: func(w *written) any { return &w.EventCommand }},
	{Name: "event_command_timeout", Type: Duration, Context: Live, Min: 100, Max: maxDuration, Default: "10",
		Doc:    "time after which an event_command is killed",
		Manual: `An *event_command* that has not ended after this time is killed, with all that it has started.`,
		Added:  true,
		target: func(w *written) any { return &w.EventCommandTimeout }},

	{Name: "backend_host", Type: HostName, Numbered: true, Default: "",
		Doc: "host name or IP address of the instance; resolved again at each connection attempt",
		Manual: `Host name or IP address (IPv4 or IPv6) of the instance. A name is resolved again at each attempt
to connect, and all its addresses are tried.`,
		instance: func(in *Instance) any { return &in.Host }},
	{Name: "backend_hostaddr", Type: IPAddress, Numbered: true, Default: "",
		Doc: "IP address of the instance, used instead of backend_host: no name resolution",
		Manual: `The same as *backend_host* but for an IP address, without name resolution. If both are set, this
one is used to connect, and *backend_host* remains the name that applications are told (for the
verification of certificates, for example).`,
		instance: func(in *Instance) any { return &in.HostAddr }},
	{Name: "backend_port", Type: Integer, Numbered: true, Min: 1, Max: 65535, Default: "27500",
		Doc: "port of the instance's postmaster",
		Manual: `The port on which the postmaster of the instance listens. <The default is not 5432:> set it,
unless your servers listen on 27500. With another port than the server's own, that of a pooler for
example, sessions carry no label by which the server knows whose they are.`,
		instance: func(in *Instance) any { return &in.Port }},
	{Name: "watchdog_port", Type: Integer, Numbered: true, Min: 1, Max: 65535, Default: "27545",
		Doc: "port of the instance's watchdog worker: watchdog.port in its postgresql.conf",
		Manual: `The port on which the watchdog worker of the instance listens, that is, the value of
*watchdog.port* in its *postgresql.conf*. Applications do not connect to it.`,
		instance: func(in *Instance) any { return &in.WatchdogPort }},
	{Name: "health_port", Type: Integer, Numbered: true, Min: 0, Max: 65535, Default: "0",
		Doc: "port on which conmgr answers health checks of this instance, by HTTP, as Patroni does beside its server; 0: none",
		Manual: `A port of <this> host on which *conmgr* answers health checks for this instance alone, by the paths
of Patroni's REST API, on the addresses of *http_listen_addresses*; *http_port* may be 0. A load
balancer on this host checks there ("<check port 8008>" in HAProxy). 0 is none.`,
		Added:    true,
		instance: func(in *Instance) any { return &in.HealthPort }},

	{Name: "heartbeat_interval", Type: Duration, Min: minDuration, Max: maxDuration, Default: "10",
		Doc: "time between two heartbeats, for both directions",
		Manual: `The time between two heartbeats. It holds for both directions: *conmgr* imposes it on the
watchdog for this connection; another *conmgr* may use another. Less than 1 second is an
addition to the User Guide.`,
		target: func(w *written) any { return &w.HeartbeatInterval }},
	{Name: "heartbeat_timeout", Type: Duration, Min: minDuration, Max: maxDuration, Default: "20",
		Doc: "silence after which the other side is declared lost; greater than heartbeat_interval",
		Manual: `If nothing has been received for this time, the other side is lost: *conmgr* tells the
applications, the watchdog ends the sessions of this host. A failure is noticed between
*heartbeat_timeout* - *heartbeat_interval* and *heartbeat_timeout* after it has happened. It
must be greater than *heartbeat_interval*. If it is not, *conmgr* starts with a warning, and
declares every instance lost again and again. At least twice *heartbeat_interval* is
recommended.`,
		target: func(w *written) any { return &w.HeartbeatTimeout }},
	{Name: "heartbeat_connect_interval", Type: Duration, Min: minDuration, Max: maxDuration, Default: "1",
		Doc: "time from a failed heartbeat connection attempt to the next",
		Manual: `The time from a failed attempt to establish a heartbeat connection to the next, for an instance
that is lost or has not been reached yet. (A connection that has broken is tried again sooner,
until heartbeat_timeout decides.) A long one delays noticing that an instance has been started.
With *100ms* a primary that was restarted was found 0.07 to 0.26 seconds after it was ready,
with *1* 0.2 to 0.7 seconds. It costs a packet there and a packet back, ten times a second, for
each instance that cannot be reached.`,
		target: func(w *written) any { return &w.ConnectInterval }},
	{Name: "heartbeat_connect_timeout", Type: Duration, Min: minDuration, Max: maxDuration, Default: "10",
		Doc: "limit of one attempt, from name resolution to the watchdog's answer",
		Manual: `The limit of one attempt to establish a heartbeat connection, from the name resolution to the
watchdog's answer. It matters when the other host is down, or the network: without it, the
operating system would try for minutes.`,
		target: func(w *written) any { return &w.ConnectTimeout }},
	{Name: "standby_timeline_grace", Type: Duration, Context: Live, Min: 0, Max: maxDuration, Also: "-1", Default: "60",
		Doc: "time for which a standby of an older timeline is offered after a promotion; 0: not at all, -1: for ever",
		Manual: `How long a standby that has not yet reached the timeline of the new primary is still offered to
applications, from the moment at which conmgr has learned of the promotion. A standby needs a
while to follow, and one with *recovery_min_apply_delay* that delay; one that never does has
stayed with the old primary, and what it tells is outdated. 0: such a standby is not offered at
all; -1: it is offered for ever. Applications that are connected to it already are left alone.`,
		target: func(w *written) any { return &w.StandbyTimelineGrace }},

	{Name: "standby_max_lag", Type: Lag, Context: Live, Default: "",
		Doc: "most that a standby may be behind to be offered, as '16MB' or '5s'; empty: any",
		Manual: `A standby that is further behind than this is not offered to applications that ask for a standby
(*standby*, *read-only*, *prefer-standby* and *prefer-read*): *prefer-standby* gets the primary
then, and the others an error that tells how far each of them is behind. *any* gets such a
standby only if there is nothing else. What is connected to it already is left alone. An
application may set its own limit: "*SHOW TARGET standby LAG '16MB'*".

A size (units B, kB, MB, GB, TB) is that of the WAL which the standby knows of and has not replayed
yet. A duration (ms, s, min, h, d) is the time since it has known of some of that; where replay is
paused, it grows from then on. In both cases, a standby is not offered that does not stream from
another server (whose walreceiver is not connected), nor one whose watchdog does not tell: that of
1.0. Servers tell it with each heartbeat: it is as old as *heartbeat_interval* and a second, so a
limit that is shorter than that comes late. A standby learns that the way to its sender is cut
after *wal_receiver_timeout*.

Empty is no limit.`,
		Added:  true,
		target: func(w *written) any { return &w.StandbyMaxLag }},
	{Name: "on_role_change", Type: Enum, Context: Live, Values: []string{"ignore", "notify", "reset"}, Default: "ignore",
		Doc: "what becomes of connections whose instance has not the attribute any more that they asked for",
		Manual: `What becomes of a connection that is bound to an instance when that has another role from then on,
and not the attribute any more that was asked for: a standby is promoted, or a primary becomes read
only by default. *ignore* leaves it alone. *notify* tells applications whose driver has asked for it
to leave the instance between two transactions, as when it is drained. *reset* ends the connection
as if the instance were lost; relayed ones are reset.`,
		Added:  true,
		target: func(w *written) any { return &w.OnRoleChange }},
	{Name: "application_grace", Type: Duration, Min: 0, Max: maxDuration, Default: "10",
		Doc: "time for which conmgr may be away without its applications losing anything; 0: its end is a loss",
		Manual: `How long *conmgr* may be away, when it is restarted, upgraded or has crashed, without that being a
loss. For so long the servers wait for it before they end the sessions of this host (no longer than
their *watchdog.max_application_grace*), and applications whose driver knows how keep theirs: when
*conmgr* is back, they go on as before, or are told if their instance was lost meanwhile. That is
for *cm_ctl restart* and for a crash. <cm_ctl stop is the end>: applications are told, and the
servers end the sessions, at once.

It costs this: should the host die while *conmgr* is away, the servers end its sessions so much
later; should an instance die then, applications are told at the latest this time and
*heartbeat_timeout* later. 0 is the way of the User Guide: the end of *conmgr*, by whatever, is a
loss, at once, or after a crash within *heartbeat_timeout*.

What *conmgr* has to know for that stands in *conmgr.identity*, in its directory. Do not copy that
file.`,
		Added:  true,
		target: func(w *written) any { return &w.ApplicationGrace }},
	{Name: KeyParam, Type: String, Default: "",
		Doc: "file with the key by which conmgr and the servers prove who they are; empty: none",
		Manual: `The file with the key of this host, the one line that *cm_ctl genkey* prints (see *cm_ctl*(1)). A
relative path begins at the directory of *conmgr.conf*; if that is a symbolic link, where it leads.
By the key, *conmgr* and the servers, which have it in their *watchdog.key_file*, prove to each
other who they are, and each message proves that it has not been changed. With a key, *conmgr*
believes no server that does not prove it, and goes on trying to connect to it; so the servers get
the key first, and *watchdog.authentication* there must not be *off*. Empty is no key.

The file must be owned by the user who runs *conmgr*, with permissions *u=rw* (0600) or less, or
by root, with *u=rw,g=r* (0640) or less. It is read at the start, and again when a server does not
know its key any more: to replace it, see the operations manual. If it cannot be used at the
start, *conmgr* does not start.

A key of another name (its keyid), or none any more, waits for a restart: to the servers that is
another *conmgr*. *cm_ctl restart* tells them that this one is no more; they end no session then,
and applications that are connected by *conmgr* are told of a loss.`,
		Added:  true,
		target: func(w *written) any { return &w.KeyFile }},

	{Name: "log_destination", Type: List, Values: []string{"stderr", "syslog"}, Default: "stderr",
		Doc: "where messages go, separated by commas",
		Manual: `Where messages go: *stderr*, *syslog*, or both, separated by a comma, in quotes. If no syslog
daemon takes messages (</dev/log>), this is said on the standard error, and what goes to syslog
is lost until one does; the number of lost lines is logged then.`,
		target: func(w *written) any { return &w.logDestinations }},
	{Name: "syslog_facility", Type: Enum, Default: "LOCAL0",
		Values: []string{"LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7"},
		Doc:    "facility of messages sent to syslog",
		Manual: `The syslog facility. It matters only if *log_destination* includes *syslog*.`,
		target: func(w *written) any { return &w.SyslogFacility }},
	{Name: "syslog_ident", Type: String, Default: "conmgr",
		Doc: "program name of messages sent to syslog",
		Manual: `The program name of the messages in syslog: 1 to 64 bytes of printable text. A syslog daemon
takes what stands before the first space, colon or bracket for the program name (RFC 3164), and
the rest for the message.`,
		target: func(w *written) any { return &w.SyslogIdent }, check: printable},
	{Name: "log_min_messages", Type: Enum, Context: Live, Values: cmlog.LevelNames[:], Default: "WARNING",
		Doc: "lowest level that is output; the levels are ordered as listed",
		Manual: `The lowest level of messages that are output. The levels are listed from low to high, in the
order of a PostgreSQL server: *WARNING* lets *LOG* through. *INFO* tells who asked for which
attribute and was sent where, who was relayed, and each attempt to reach a watchdog; *DEBUG*
tells each connection as well, and why the other instances were not taken. What others can cause
again and again is limited to a few lines in ten seconds, with a count of what was left out, but
for these two levels.`,
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
