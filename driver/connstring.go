package driver

// The connection string, as far as this package needs it: hosts, attribute, timeout, name. All
// other settings are kept as they are, for the real driver, which also reads password files,
// services and certificates. Pure.

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/duration"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// Attribute is a value of target_session_attrs.
type Attribute = cm.Attribute

// The values of target_session_attrs. PreferRead is the old name of PreferStandby.
const (
	Any           = cm.Any
	ReadWrite     = cm.ReadWrite
	ReadOnly      = cm.ReadOnly
	Primary       = cm.Primary
	Standby       = cm.Standby
	PreferStandby = cm.PreferStandby
	PreferRead    = cm.PreferRead
)

// Host is one host of the list in a connection string: a conmgr or a server.
type Host struct {
	Host     string // name, address, or the directory of a Unix-domain socket; empty if only hostaddr was given
	HostAddr string // address to connect to without a name lookup; may be empty
	Port     string
}

// Name is the host's name for messages, and for certificates and passwords.
func (h Host) Name() string {
	if h.Host != "" {
		return h.Host
	}
	return h.HostAddr
}

// IsUnix tells whether it is the directory of a Unix-domain socket.
func (h Host) IsUnix() bool { return h.HostAddr == "" && strings.HasPrefix(h.Host, "/") }

// Config is a parsed connection string.
type Config struct {
	Hosts           []Host
	HostsGiven      bool // by the connection string or the environment, and not by default
	Attribute       Attribute
	ConnectTimeout  time.Duration // for each connection attempt; 0: no limit
	ApplicationName string        // shown by SHOW APPLICATIONS
	User, Database  string        // may be empty
	SSLMode         string        // may be empty: the driver's default
	RequirePeer     string        // user who must own the other end of a Unix-domain socket; may be empty
	// TargetWait is conmgr.target_wait of the parameter options: for how long a conmgr may wait until
	// an instance has the attribute. nil: as long as it does of its own accord.
	TargetWait *time.Duration

	// Settings are all other settings that were given, for the real driver.
	Settings map[string]string
}

// ParseConfig parses a keyword/value connection string or a postgresql:// URI. As in libpq, host,
// hostaddr and port may be comma-separated lists, and PGHOST, PGHOSTADDR, PGPORT,
// PGTARGETSESSIONATTRS, PGCONNECT_TIMEOUT, PGAPPNAME, PGUSER, PGDATABASE, PGSSLMODE, PGREQUIREPEER
// and PGOPTIONS stand for what is not given.
func ParseConfig(connString string) (*Config, error) {
	var settings map[string]string
	var err error
	if rest, ok := cutScheme(connString); ok {
		settings, err = parseURI(rest)
	} else {
		settings, err = parseKeywords(connString)
	}
	if err != nil {
		return nil, fmt.Errorf("invalid connection string: %w", err)
	}
	return NewConfig(settings)
}

func badAttribute(a string) error {
	return fmt.Errorf("invalid value for parameter \"target_session_attrs\": %q (allowed: %s)", a,
		cm.JoinAttributes(", "))
}

// NewConfig makes a Config of settings that are already parsed.
func NewConfig(settings map[string]string) (*Config, error) {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if err := ZeroFree(key, settings[key]); err != nil {
			return nil, err
		}
		if _, uri := cutScheme(key); uri { // the real driver would take what we write for one
			return nil, errors.New("invalid connection string: a URI stands at its beginning: is there a space before it?")
		}
	}
	get := func(key, env string) string {
		if v, ok := settings[key]; ok {
			return v
		}
		return os.Getenv(env)
	}
	c := &Config{
		Attribute:       Any,
		ApplicationName: get("application_name", "PGAPPNAME"),
		User:            get("user", "PGUSER"),
		Database:        get("dbname", "PGDATABASE"),
		SSLMode:         get("sslmode", "PGSSLMODE"),
		RequirePeer:     get("requirepeer", "PGREQUIREPEER"),
		Settings:        map[string]string{},
	}
	if c.ApplicationName == "" {
		c.ApplicationName = settings["fallback_application_name"]
	}
	if a := get("target_session_attrs", "PGTARGETSESSIONATTRS"); a != "" {
		c.Attribute = Attribute(a)
		if !slices.Contains(cm.Attributes, c.Attribute) {
			return nil, badAttribute(a)
		}
		if c.Attribute == PreferRead {
			c.Attribute = PreferStandby
		}
	}
	if err := c.setConnectTimeout(get("connect_timeout", "PGCONNECT_TIMEOUT")); err != nil {
		return nil, err
	}
	host, hostaddr := get("host", "PGHOST"), get("hostaddr", "PGHOSTADDR")
	c.HostsGiven = host != "" || hostaddr != ""
	var err error
	c.Hosts, err = hostList(host, hostaddr, get("port", "PGPORT"))
	if err != nil {
		return nil, err
	}
	return c, c.keep(settings, get("options", "PGOPTIONS"))
}

// keep sets what is the real driver's.
func (c *Config) keep(settings map[string]string, options string) error {
	for k, v := range settings {
		switch k {
		case "host", "hostaddr", "port", "target_session_attrs":
		case "connect_timeout": // set already
		case "requirepeer": // no real driver here knows it: it would become a setting of the session
		default:
			c.Settings[k] = v
		}
	}
	wait, rest, err := CutTargetWait(options)
	if wait != nil {
		c.TargetWait, c.Settings["options"] = wait, rest
	}
	return err
}

// CutTargetWait takes conmgr.target_wait out of the options of a session: it is for conmgr, and
// unknown to servers. nil: it is not there.
func CutTargetWait(options string) (wait *time.Duration, rest string, err error) {
	value, found, rest := pgwire.CutOption(options, cm.WaitSetting)
	if !found {
		return nil, options, nil
	}
	d, err := duration.Parse(value, 0, duration.Most)
	if err != nil {
		return nil, options, fmt.Errorf("invalid value for parameter %q in \"options\": %q (%w)", cm.WaitSetting, value,
			err)
	}
	return &d, rest, nil
}

// setConnectTimeout reads connect_timeout, which may be empty.
func (c *Config) setConnectTimeout(t string) error {
	if t == "" {
		return nil
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(t), 10, 32)
	if err != nil {
		return fmt.Errorf("invalid value for parameter \"connect_timeout\": %q "+
			"(allowed: a number of seconds; 0 for no limit)", t)
	}
	seconds = max(0, seconds)
	c.ConnectTimeout = time.Duration(seconds) * time.Second
	// A negative one is no limit, as in libpq. lib/pq would fail at once, and pgx refuses it.
	c.Settings["connect_timeout"] = strconv.FormatInt(seconds, 10)
	return nil
}

// ConnString is a keyword/value connection string for the real driver: Settings, with one host.
func (c *Config) ConnString(host, port string) string {
	pairs := make([]string, 0, len(c.Settings)+2)
	escape := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	for k, v := range c.Settings {
		pairs = append(pairs, k+"='"+escape.Replace(v)+"'")
	}
	sort.Strings(pairs)
	return strings.Join(append(pairs, "host='"+escape.Replace(host)+"'", "port='"+escape.Replace(port)+"'"), " ")
}

// ZeroFree is an error if a connection parameter has a zero byte. In a StartupMessage that byte
// ends a value: what follows it would be taken for another parameter, such as a user of somebody
// else's choice.
func ZeroFree(name, value string) error {
	if strings.ContainsRune(name, 0) {
		return fmt.Errorf("invalid connection parameter %q: zero bytes are forbidden", name)
	}
	if strings.ContainsRune(value, 0) {
		if strings.Contains(name, "password") {
			value = "..." // not for a log
		}
		return fmt.Errorf("invalid value for parameter %q: %q (zero bytes are forbidden)", name, value)
	}
	return nil
}

func hostList(host, hostaddr, port string) ([]Host, error) {
	var names, addrs, ports []string
	if host != "" {
		names = strings.Split(host, ",")
	}
	if hostaddr != "" {
		addrs = strings.Split(hostaddr, ",")
	}
	if port != "" {
		ports = strings.Split(port, ",")
	}
	n := max(len(names), len(addrs))
	switch {
	case n == 0:
		names, n = []string{"localhost"}, 1
	case len(names) > 0 && len(addrs) > 0 && len(names) != len(addrs):
		return nil, fmt.Errorf("could not match %d host names to %d hostaddr values", len(names), len(addrs))
	}
	if len(ports) > 1 && len(ports) != n {
		return nil, fmt.Errorf("could not match %d port numbers to %d hosts", len(ports), n)
	}
	hosts := make([]Host, n)
	for i := range hosts {
		h := Host{Port: "5432"}
		if len(names) > 0 {
			h.Host = strings.TrimSpace(names[i])
		}
		if len(addrs) > 0 {
			h.HostAddr = strings.TrimSpace(addrs[i])
		}
		if h.Host == "" && h.HostAddr == "" {
			h.Host = "localhost"
		}
		p := ""
		if len(ports) == 1 {
			p = ports[0]
		} else if len(ports) > 1 {
			p = ports[i]
		}
		if p = strings.TrimSpace(p); p != "" {
			if v, err := strconv.Atoi(p); err != nil || v < 1 || v > 65535 {
				return nil, fmt.Errorf("invalid value for parameter \"port\": %q (allowed: 1 to 65535)", p)
			}
			h.Port = p
		}
		hosts[i] = h
	}
	return hosts, nil
}

// parseKeywords follows libpq's conninfo_parse: values may be quoted with ', a backslash escapes.
func parseKeywords(s string) (map[string]string, error) {
	settings := map[string]string{}
	const space = " \t\n\r\f\v"
	for {
		s = strings.TrimLeft(s, space)
		if s == "" {
			return settings, nil
		}
		end := strings.IndexAny(s, "="+space)
		if end < 0 {
			return nil, fmt.Errorf("missing \"=\" after %q", s)
		}
		key := s[:end]
		s = strings.TrimLeft(s[end:], space)
		if !strings.HasPrefix(s, "=") || key == "" {
			return nil, fmt.Errorf("missing \"=\" after %q", key)
		}
		s = strings.TrimLeft(s[1:], space)
		quoted := strings.HasPrefix(s, "'")
		if quoted {
			s = s[1:]
		}
		var value strings.Builder
		closed := false
		i := 0
		for ; i < len(s); i++ {
			c := s[i]
			if c == '\\' {
				if i++; i < len(s) {
					value.WriteByte(s[i])
				}
				continue
			}
			if quoted && c == '\'' {
				closed = true
				i++
				break
			}
			if !quoted && strings.IndexByte(space, c) >= 0 {
				break
			}
			value.WriteByte(c)
		}
		if quoted && !closed {
			return nil, errors.New("unterminated quoted string")
		}
		s = s[min(i, len(s)):]
		settings[key] = value.String()
	}
}

func cutScheme(s string) (string, bool) {
	for _, scheme := range []string{"postgresql://", "postgres://"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			return rest, true
		}
	}
	return s, false
}

// parseURI follows libpq: [userspec@][host[:port][,...]][/dbname][?name=value[&...]]. net/url does
// not know lists of hosts.
func parseURI(s string) (map[string]string, error) {
	settings := map[string]string{}
	var failed error
	decode := func(raw string, secret bool) string {
		v, err := url.PathUnescape(raw)
		if err == nil && strings.ContainsRune(v, 0) { // in libpq's words
			if secret {
				raw = "..."
			}
			err = fmt.Errorf("forbidden value %%00 in percent-encoded value: %q", raw)
		}
		if err != nil && failed == nil {
			failed = err
		}
		return v
	}
	set := func(key, raw string) { settings[decode(key, false)] = decode(raw, key == "password") }
	s, query, _ := strings.Cut(s, "?")
	authority, database, _ := strings.Cut(s, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, password, ok := strings.Cut(authority[:at], ":")
		if user != "" {
			set("user", user)
		}
		if ok && password != "" {
			set("password", password)
		}
		authority = authority[at+1:]
	}
	if authority != "" {
		var hosts, ports []string
		for _, hp := range strings.Split(authority, ",") {
			var h, p string
			if strings.HasPrefix(hp, "[") {
				end := strings.IndexByte(hp, ']')
				if end < 0 || (end+1 < len(hp) && hp[end+1] != ':') {
					return nil, fmt.Errorf("end of an IPv6 address not found in %q", hp)
				}
				h, p = hp[1:end], strings.TrimPrefix(hp[end+1:], ":")
			} else {
				h, p, _ = strings.Cut(hp, ":")
			}
			hosts, ports = append(hosts, h), append(ports, p)
		}
		if list := strings.Join(hosts, ","); strings.Trim(list, ",") != "" {
			set("host", list)
		}
		if list := strings.Join(ports, ","); strings.Trim(list, ",") != "" {
			set("port", list)
		}
	}
	if database != "" {
		set("dbname", database)
	}
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("missing \"=\" after %q in the URI's parameters", pair)
		}
		if key == "ssl" && value == "true" { // as JDBC writes it, and libpq accepts it
			key, value = "sslmode", "require"
		}
		set(key, value)
	}
	return settings, failed
}
