package conf

// Config: what conmgr.conf says, checked. Run by the main goroutine, at start and at a reload; it
// blocks on reading files only.

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// maxDiagnostics bounds the errors: as many as a PostgreSQL server tells.
const maxDiagnostics = 100

// Instance is one instance to monitor.
type Instance struct {
	Number       int
	Host         string     // as configured, "" if only HostAddr is
	HostAddr     netip.Addr // invalid if not configured
	Port         int
	WatchdogPort int
	HealthPort   int // 0: none
}

// Name is the host as configured: backend_host, else backend_hostaddr.
func (c *Instance) Name() string {
	if c.Host != "" {
		return c.Host
	}
	return c.HostAddr.String()
}

// RoleChange is what becomes of connections that are bound to an instance which has not the attribute
// any more that they asked for.
type RoleChange uint8

// The values of on_role_change, in the order of its row.
const (
	RoleIgnored  RoleChange = iota
	RoleNotified            // who has asked for it is told to leave
	RoleReset               // as a loss
)

// RelayPort is a port whose connections are carried to an instance with an attribute.
type RelayPort struct {
	Attribute cm.Attribute
	Port      int
}

// Config is immutable once it is made.
type Config struct {
	Dir             string // absolute, of conmgr.conf
	Port            int
	ListenAddresses []string

	SocketDirs        []string // absolute, or abstract sockets (@name)
	SocketDirsDefault bool     // nobody has asked for them
	SocketMode        os.FileMode

	MaxConnections     int
	MaxUserConnections int
	IdleTimeout        time.Duration // 0: none
	AdminUsers         []string      // names or numbers
	StatsUsers         []string      // the same, and Everybody
	TargetWait         time.Duration // of who does not say for how long he waits; 0: not
	MaxWaiting         int
	OnRoleChange       RoleChange
	Instances          []Instance // ordered by number
	RelayPorts         []RelayPort
	RelayNetworks      []netip.Prefix // beside this host
	NotifyLoss         bool           // false: losses are only reported
	DestroySockets     bool

	HeartbeatInterval, HeartbeatTimeout time.Duration
	ConnectInterval, ConnectTimeout     time.Duration
	StandbyTimelineGrace                time.Duration // negative: for ever
	StandbyMaxLag                       heartbeat.LagLimit
	ApplicationGrace                    time.Duration // 0: conmgr's end is a loss
	KeyFile                             string        // absolute; "": without a key
	Key                                 *proof.Key    // as it was when the file was loaded

	HTTPPort            int // 0: none
	HTTPAddresses       []string
	EventHistory        int    // events that are kept
	EventCommand        string // "": none
	EventCommandTimeout time.Duration

	LogStderr, LogSyslog bool
	SyslogFacility       int // 0 to 7: LOCALn
	SyslogIdent          string
	LogMinMessages       cmlog.Level

	Settings []Setting
}

// Diagnostic is an error or a warning about the file.
type Diagnostic struct {
	File    string
	Line    int // 0: about the whole file
	Warning bool
	Text    string
	Hint    string
}

func (d Diagnostic) String() string {
	s := d.File
	if d.Line > 0 {
		s += ":" + strconv.Itoa(d.Line)
	}
	return s + ": " + d.Text
}

// Load reads conmgr.conf of a directory, and what it includes. The config is nil if there is an error
// among the diagnostics.
func Load(dir string) (*Config, []Diagnostic) { return LoadKept(dir, nil) }

type key struct {
	name   string
	number int // -1: not a numbered parameter
}

// String is the name as it is written.
func (k key) String() string {
	if k.number < 0 {
		return k.name
	}
	return k.name + strconv.Itoa(k.number)
}

type given struct {
	value
	place
}

type configParser struct {
	file  string
	diags []Diagnostic
	set   map[key]given

	lines   int  // that were read, of all files
	files   int  // that are included
	full    bool // there were too many errors
	errors  int
	badHost bool // a line that names a host has an error: it is not missing
}

func newParser(file string) *configParser { return &configParser{file: file, set: map[key]given{}} }

func (p *configParser) errorf(at place, hint, format string, args ...any) {
	p.errors++
	p.diags = append(p.diags, Diagnostic{File: at.file, Line: at.line, Text: fmt.Sprintf(format, args...), Hint: hint})
}

func (p *configParser) warnf(at place, hint, format string, args ...any) {
	p.diags = append(p.diags, Diagnostic{File: at.file, Line: at.line, Warning: true, Text: fmt.Sprintf(format, args...),
		Hint: hint})
}

// at is where a parameter is set, else the file.
func (p *configParser) at(k key) place {
	if g, ok := p.set[k]; ok {
		return g.place
	}
	return place{file: p.file}
}

// Parse takes the content of a file, which may include others; file is its name. All errors are
// reported at once.
func Parse(file string, data []byte) (*Config, []Diagnostic) {
	p := newParser(file)
	p.read(file, data, nil)
	return p.finish()
}

// finish makes the config of what was read.
func (p *configParser) finish() (*Config, []Diagnostic) {
	if p.full {
		return nil, p.diags
	}
	c := p.build()
	if p.errors > 0 {
		return nil, p.diags
	}
	return c, p.diags
}

// setting checks one line and keeps it; a later one of the same name wins. ok is false if there was
// an error.
func (p *configParser) setting(n place, l line) (ok bool) {
	name := strings.ToLower(l.name)
	base := strings.TrimRight(name, "0123456789")
	k := key{name, -1}
	param := findParam(name)
	switch {
	case param != nil && param.Numbered:
		p.errorf(n, fmt.Sprintf("Write %s0 for the first instance.", name),
			"unknown parameter %q: an instance number is missing", l.name)
		return false
	case param == nil && base != name:
		if param = findParam(base); param != nil && param.Numbered {
			digits := name[len(base):]
			num, err := strconv.Atoi(digits)
			if len(digits) > 1 && digits[0] == '0' {
				p.errorf(n, "", "invalid instance number %q in parameter %q: leading zeros are not allowed",
					Clip(digits), Clip(l.name))
				return false
			}
			if err != nil || num > cm.MaxInstanceNumber {
				p.errorf(n, "", "invalid instance number %q in parameter %q: allowed are 0 to %d", Clip(digits),
					Clip(l.name), cm.MaxInstanceNumber)
				return false
			}
			k = key{base, num}
		} else {
			param = nil
		}
	}
	if param == nil {
		p.errorf(n, nameHint(name), "unknown parameter %q", Clip(l.name))
		return false
	}
	v, err := param.parse(l.value)
	if err != nil {
		hint := lineHint(l.value)
		if he := (hintedError{}); errors.As(err, &he) {
			hint = strings.ReplaceAll(he.hint, "backend_portN", "backend_port"+strconv.Itoa(k.number))
		}
		p.errorf(n, hint, "invalid value %q for parameter %q: %s", Clip(l.value), l.name, err)
		return false
	}
	if first, again := p.set[k]; again && first.file == n.file { // else a file has the last word
		p.warnf(n, "", "parameter %q is set on line %d already: line %d counts", name, first.line, n.line)
	}
	p.set[k] = given{v, n}
	return true
}

// namesHost tells whether a parameter, with or without its number, says where an instance is.
func namesHost(name string) bool {
	base := strings.TrimRight(strings.ToLower(name), "0123456789")
	return base == "backend_host" || base == "backend_hostaddr"
}

// build makes the Config of the lines and of the defaults, and checks what concerns more than one
// line.
func (p *configParser) build() *Config {
	w := &written{Config: &Config{Dir: p.dir()}}
	c := w.Config
	for i := range Params {
		if prm := &Params[i]; !prm.Numbered {
			assign(prm.target(w), p.value(prm, -1))
		}
	}
	c.LogStderr, c.LogSyslog = slices.Contains(w.logDestinations, "stderr"), slices.Contains(w.logDestinations, "syslog")
	p.sockets(w)
	if c.KeyFile != "" && !filepath.IsAbs(c.KeyFile) {
		c.KeyFile = filepath.Join(absolute(folder(p.file)), c.KeyFile)
	}
	p.instances(c)
	p.ports(w)
	p.relayNetworks(c)
	if c.HeartbeatTimeout <= c.HeartbeatInterval {
		p.warnf(later(p.at(key{"heartbeat_timeout", -1}), p.at(key{"heartbeat_interval", -1})), "Set heartbeat_timeout to at least twice heartbeat_interval.",
			"heartbeat_timeout (%s) is not greater than heartbeat_interval (%s): every instance will be declared lost",
			formatDuration(c.HeartbeatTimeout), formatDuration(c.HeartbeatInterval))
	}
	p.settings(c)
	return c
}

// dir is conmgr's directory; paths of sockets begin there.
func (p *configParser) dir() string { return absolute(filepath.Dir(p.file)) }

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// sockets: a path that is too long for a socket is an error, but for the default one.
func (p *configParser) sockets(w *written) {
	const name = "unix_socket_directories"
	c, g := w.Config, p.set[key{name, -1}]
	c.SocketDirsDefault = p.value(findParam(name), -1).text == findParam(name).Default
	for _, dir := range w.socketDirs {
		if !filepath.IsAbs(dir) && dir[0] != '@' {
			dir = filepath.Join(c.Dir, dir)
		}
		if path := cm.SocketPath(dir, c.Port); len(path) > cm.MaxSocketPath {
			if !c.SocketDirsDefault {
				p.errorf(g.place, "Name a directory with a shorter path.",
					"invalid value %q for parameter %q: the path of the Unix socket \"%s\" has %d bytes: allowed are %d",
					Clip(g.text), name, path, len(path), cm.MaxSocketPath)
			} else {
				p.warnf(p.at(key{name, -1}), "Name a directory with a shorter path in "+name+", or '' for none.",
					"no Unix socket is opened: the path \"%s\" has %d bytes: allowed are %d", path, len(path),
					cm.MaxSocketPath)
			}
			continue
		}
		if !slices.Contains(c.SocketDirs, dir) {
			c.SocketDirs = append(c.SocketDirs, dir)
		}
	}
}

// ports: each is listened on for one purpose.
func (p *configParser) ports(w *written) {
	c := w.Config
	taken := map[int]key{c.Port: {"port", -1}}
	for i, a := range cm.Attributes {
		if port := w.relayPorts[i]; p.take(taken, key{relayParam(a), -1}, port) {
			c.RelayPorts = append(c.RelayPorts, RelayPort{a, port})
		}
	}
	p.take(taken, key{"http_port", -1}, c.HTTPPort)
	for i := range c.Instances {
		p.take(taken, key{"health_port", c.Instances[i].Number}, c.Instances[i].HealthPort)
	}
}

// take tells whether a port is set, and nobody's yet.
func (p *configParser) take(taken map[int]key, name key, port int) bool {
	other, again := taken[port]
	switch {
	case port == 0:
		return false
	case !again:
		taken[port] = name
		return true
	}
	first, second := p.at(other), p.at(name)
	if first.order > second.order {
		name, other, first, second = other, name, second, first
	}
	p.errorf(second, "Each of them needs a port of its own.",
		"parameter %q has the same port as parameter %q, which is %d %s", name, other, port, first.seenFrom(second))
	return false
}

// relayNetworks: relay ports on other than loopback addresses take nobody from elsewhere, unless he
// is named.
func (p *configParser) relayNetworks(c *Config) {
	beyond := slices.ContainsFunc(c.ListenAddresses, func(name string) bool {
		a, err := netip.ParseAddr(name)
		return name != "localhost" && (err != nil || !a.Unmap().IsLoopback())
	})
	if len(c.RelayPorts) > 0 && beyond && len(c.RelayNetworks) == 0 {
		p.warnf(p.at(key{"listen_addresses", -1}),
			"Name the networks in relay_allowed_networks whose clients may use them.",
			"relay ports take connections of this host only, whatever listen_addresses says")
	}
}

func (p *configParser) instances(c *Config) {
	var numbers []int
	for k, g := range p.set {
		if (k.name == "backend_host" || k.name == "backend_hostaddr") && g.text != "" &&
			!slices.Contains(numbers, k.number) {
			numbers = append(numbers, k.number)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		in := Instance{Number: n}
		for i := range Params {
			if prm := &Params[i]; prm.Numbered {
				assign(prm.instance(&in), p.value(prm, n))
			}
		}
		for _, o := range c.Instances {
			if strings.EqualFold(o.Host, in.Host) && o.HostAddr == in.HostAddr &&
				(o.Port == in.Port || o.WatchdogPort == in.WatchdogPort) {
				p.warnf(later(p.at(key{"backend_host", n}), p.at(key{"backend_hostaddr", n})), "", "instance %d is the same as instance %d: host %q, port %d, watchdog port %d", n,
					o.Number, in.Name(), in.Port, in.WatchdogPort)
			}
		}
		c.Instances = append(c.Instances, in)
	}
	switch {
	case p.badHost:
	case len(numbers) > 0:
		p.homeless(numbers)
	default:
		p.errorf(place{file: p.file}, "Set backend_host0 or backend_hostaddr0.", "no instance is configured")
	}
}

// homeless warns of settings for instances that have no host, which are often meant for another
// one.
func (p *configParser) homeless(numbers []int) {
	var lost []key
	for k := range p.set {
		if k.number >= 0 && !slices.Contains(numbers, k.number) {
			lost = append(lost, k)
		}
	}
	slices.SortFunc(lost, func(a, b key) int { return p.set[a].order - p.set[b].order })
	for _, k := range lost {
		p.warnf(p.set[k].place, fmt.Sprintf("Set backend_host%d, or correct the number.", k.number),
			"parameter \"%s%d\" does nothing: there is no instance %d", k.name, k.number, k.number)
	}
}

// value is that of the file, else the default.
func (p *configParser) value(prm *Param, number int) value {
	if g, ok := p.set[key{prm.Name, number}]; ok {
		return g.value
	}
	v, err := prm.parse(prm.Default)
	if err != nil {
		panic("default of " + prm.Name + ": " + err.Error())
	}
	return v
}

// formatDuration writes a duration as conmgr.conf would.
func formatDuration(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return fmt.Sprintf("%d ms", d/time.Millisecond)
}
