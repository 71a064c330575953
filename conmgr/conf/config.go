package conf

// Config: what conmgr.conf says, checked. Run once at start, by the main goroutine; it blocks on
// reading the file only.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

const (
	maxConfigSize  = 1 << 20
	maxDiagnostics = 100 // errors: as many as a PostgreSQL server tells
)

// Instance is one instance to monitor.
type Instance struct {
	Number       int
	Host         string     // as configured, "" if only HostAddr is
	HostAddr     netip.Addr // invalid if not configured
	Port         int
	WatchdogPort int
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

// Setting is a row of SHOW CONFIG.
type Setting struct{ Name, Value, Default, Source string }

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
	TargetWait         time.Duration // of who does not say for how long he waits; 0: not
	MaxWaiting         int
	OnRoleChange       RoleChange
	Instances          []Instance // ordered by number
	RelayPorts         []RelayPort
	RelayNetworks      []netip.Prefix // beside this host
	DestroySockets     bool

	HeartbeatInterval, HeartbeatTimeout time.Duration
	ConnectInterval, ConnectTimeout     time.Duration
	StandbyTimelineGrace                time.Duration // negative: for ever
	StandbyMaxLag                       heartbeat.LagLimit
	ApplicationGrace                    time.Duration // 0: conmgr's end is a loss
	KeyFile                             string        // absolute; "": without a key
	Key                                 *proof.Key    // as it was when the file was loaded

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

// Load reads conmgr.conf of a directory. The config is nil if there is an error among the
// diagnostics.
func Load(dir string) (*Config, []Diagnostic) {
	file := filepath.Join(dir, cm.ConfigFile)
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // does not wait for the writer of a FIFO
	if err != nil {
		return nil, []Diagnostic{{File: file, Text: "could not open the configuration file: " + rootCause(err)}}
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && !st.Mode().IsRegular() {
		return nil, []Diagnostic{{File: file, Text: "could not read the configuration file: it is not a regular file"}}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err != nil {
		return nil, []Diagnostic{{File: file, Text: "could not read the configuration file: " + rootCause(err)}}
	}
	if len(data) > maxConfigSize {
		return nil, []Diagnostic{{File: file, Text: fmt.Sprintf("the configuration file is larger than %d bytes",
			maxConfigSize)}}
	}
	c, diags := Parse(file, data)
	return loadKey(c, diags)
}

// rootCause is the operating system's text alone, where there is one.
func rootCause(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

type key struct {
	name   string
	number int // -1: not a numbered parameter
}

type given struct {
	value
	line int
}

type configParser struct {
	file  string
	diags []Diagnostic
	set   map[key]given

	errors  int
	badHost bool // a line that names a host has an error: it is not missing
}

func (p *configParser) errorf(line int, hint, format string, args ...any) {
	p.errors++
	p.diags = append(p.diags, Diagnostic{File: p.file, Line: line, Text: fmt.Sprintf(format, args...), Hint: hint})
}

func (p *configParser) warnf(line int, hint, format string, args ...any) {
	p.diags = append(p.diags, Diagnostic{File: p.file, Line: line, Warning: true, Text: fmt.Sprintf(format, args...),
		Hint: hint})
}

// Parse takes the content of a file; file is its name for messages. All errors of the file
// are reported at once.
func Parse(file string, data []byte) (*Config, []Diagnostic) {
	p := &configParser{file: file, set: map[key]given{}}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		p.errorf(0, "Save it as UTF-8.", "the configuration file is UTF-16 text")
		return nil, p.diags
	}
	for i, s := range splitLines(data) {
		if p.errors >= maxDiagnostics {
			p.errorf(i+1, "", "too many errors: the rest of the file is not read")
			return nil, p.diags
		}
		l, err := parseLine(s)
		switch {
		case err != nil:
			p.errorf(i+1, lineHint(s), "%s", err)
			p.badHost = p.badHost || namesHost(l.name)
		case l.name != "":
			if !p.setting(i+1, l) {
				p.badHost = p.badHost || namesHost(l.name)
			}
		}
	}
	c := p.build()
	for _, d := range p.diags {
		if !d.Warning {
			return nil, p.diags
		}
	}
	return c, p.diags
}

// setting checks one line and keeps it; a later one of the same name wins. ok is false if there was
// an error.
func (p *configParser) setting(n int, l line) (ok bool) {
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
	if first, again := p.set[k]; again {
		p.warnf(n, "", "parameter %q is set on line %d already: line %d counts", name, first.line, n)
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
	p.relayPorts(w)
	p.relayNetworks(c)
	if c.KeyFile != "" && !filepath.IsAbs(c.KeyFile) {
		c.KeyFile = filepath.Join(c.Dir, c.KeyFile)
	}
	p.instances(c)
	if c.HeartbeatTimeout <= c.HeartbeatInterval {
		line := max(p.set[key{"heartbeat_timeout", -1}].line, p.set[key{"heartbeat_interval", -1}].line)
		p.warnf(line, "Set heartbeat_timeout to at least twice heartbeat_interval.",
			"heartbeat_timeout (%s) is not greater than heartbeat_interval (%s): every instance will be declared lost",
			formatDuration(c.HeartbeatTimeout), formatDuration(c.HeartbeatInterval))
	}
	p.settings(c)
	return c
}

// dir is that of the file; paths in it begin there.
func (p *configParser) dir() string {
	dir := filepath.Dir(p.file)
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
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
				p.errorf(g.line, "Name a directory with a shorter path.",
					"invalid value %q for parameter %q: the path of the Unix socket \"%s\" has %d bytes: allowed are %d",
					Clip(g.text), name, path, len(path), cm.MaxSocketPath)
			} else {
				p.warnf(g.line, "Name a directory with a shorter path in "+name+", or '' for none.",
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

// relayPorts: each port is listened on for one purpose.
func (p *configParser) relayPorts(w *written) {
	c := w.Config
	taken := map[int]string{c.Port: "port"}
	for i, a := range cm.Attributes {
		name, port := relayParam(a), w.relayPorts[i]
		if port == 0 {
			continue
		}
		if other, again := taken[port]; again {
			first, second := p.set[key{other, -1}].line, p.set[key{name, -1}].line
			where := "on line " + strconv.Itoa(first)
			switch {
			case first == 0:
				where = "by default"
			case first > second:
				name, other, where, second = other, name, "on line "+strconv.Itoa(second), first
			}
			p.errorf(second, "Each of them needs a port of its own.",
				"parameter %q has the same port as parameter %q, which is %d %s", name, other, port, where)
			continue
		}
		taken[port] = name
		c.RelayPorts = append(c.RelayPorts, RelayPort{a, port})
	}
}

// relayNetworks: relay ports on other than loopback addresses take nobody from elsewhere, unless he
// is named.
func (p *configParser) relayNetworks(c *Config) {
	beyond := slices.ContainsFunc(c.ListenAddresses, func(name string) bool {
		a, err := netip.ParseAddr(name)
		return name != "localhost" && (err != nil || !a.Unmap().IsLoopback())
	})
	if len(c.RelayPorts) > 0 && beyond && len(c.RelayNetworks) == 0 {
		p.warnf(p.set[key{"listen_addresses", -1}].line,
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
				line := max(p.set[key{"backend_host", n}].line, p.set[key{"backend_hostaddr", n}].line)
				p.warnf(line, "", "instance %d is the same as instance %d: host %q, port %d, watchdog port %d", n,
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
		p.errorf(0, "Set backend_host0 or backend_hostaddr0.", "no instance is configured")
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
	slices.SortFunc(lost, func(a, b key) int { return p.set[a].line - p.set[b].line })
	for _, k := range lost {
		p.warnf(p.set[k].line, fmt.Sprintf("Set backend_host%d, or correct the number.", k.number),
			"parameter \"%s%d\" does nothing: there is no instance %d", k.name, k.number, k.number)
	}
}

// settings lists every parameter for SHOW CONFIG; of the numbered ones, those of each instance.
func (p *configParser) settings(c *Config) {
	add := func(prm *Param, k key, name string) {
		s := Setting{Name: name, Value: prm.Default, Default: prm.Default, Source: "default"}
		if g, ok := p.set[k]; ok {
			s.Value, s.Source = g.text, fmt.Sprintf("%s:%d", p.file, g.line)
		}
		c.Settings = append(c.Settings, s)
	}
	for i := range Params {
		if prm := &Params[i]; !prm.Numbered {
			add(prm, key{prm.Name, -1}, prm.Name)
		}
	}
	for _, in := range c.Instances {
		for i := range Params {
			if prm := &Params[i]; prm.Numbered {
				add(prm, key{prm.Name, in.Number}, prm.Name+strconv.Itoa(in.Number))
			}
		}
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
