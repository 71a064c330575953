package conf

// The values of conmgr.conf by their types: what is allowed, and their canonical spelling. Pure, but
// for the look-up of users' names, which reads the system's files.

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/user"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/duration"
)

const maxSyslogIdent = 64

// value is a parsed one.
type value struct {
	typed any    // int, time.Duration, string, bool, os.FileMode, netip.Addr, heartbeat.LagLimit, []string or []netip.Prefix
	text  string // in its canonical spelling
}

// parse reads a value. The error is the text of what is allowed.
func (p *Param) parse(v string) (value, error) {
	if p.check != nil {
		if err := p.check(v); err != nil {
			return value{}, err
		}
	}
	switch p.Type {
	case Integer:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || v[0] == '+' || n < p.Min || n > p.Max {
			return value{}, fmt.Errorf("allowed are %d to %d", p.Min, p.Max)
		}
		return value{int(n), strconv.FormatInt(n, 10)}, nil
	case Octal:
		n, err := strconv.ParseUint(strings.TrimPrefix(v, "0o"), 8, 64)
		if err != nil || n > uint64(p.Max) {
			return value{}, errors.New("allowed are octal numbers from 0000 to 0777")
		}
		return value{os.FileMode(n), fmt.Sprintf("%04o", n)}, nil
	case Duration:
		return p.parseDuration(v)
	case Boolean:
		return parseBool(v)
	case Enum:
		for i, a := range p.Values {
			if strings.EqualFold(a, v) {
				return value{i, a}, nil
			}
		}
		return value{}, fmt.Errorf("allowed are %s", strings.Join(p.Values, ", "))
	case List:
		return p.parseList(v)
	case Names:
		return value{splitAddresses(v), v}, nil
	case Hosts:
		return parseHosts(v)
	case Networks:
		return parseNetworkList(v)
	case IPAddress:
		return parseAddress(v)
	case Lag:
		limit, err := ParseLag(v)
		return value{limit, limit.Text}, err
	case HostName:
		if !isHost(v) {
			return value{}, hintedError{errors.New("allowed is one host name or IP address"), hostHint(v)}
		}
	}
	return value{v, v}, nil
}

func (p *Param) parseDuration(v string) (value, error) {
	if v == p.Also && v != "" {
		return value{time.Duration(-1), v}, nil
	}
	d, err := duration.Parse(v, p.Min, p.Max)
	if err != nil && p.Also != "" {
		err = fmt.Errorf("%w, and %s", err, p.Also)
	}
	return value{d, v}, err
}

func (p *Param) parseList(v string) (value, error) {
	var out []string
	for _, e := range strings.Split(v, ",") {
		e = strings.ToLower(trimSpace(e))
		if !slices.Contains(p.Values, e) {
			return value{}, fmt.Errorf("allowed are %s, separated by commas", strings.Join(p.Values, ", "))
		}
		if !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return value{out, strings.Join(out, ",")}, nil
}

// parseHosts: at least one.
func parseHosts(v string) (value, error) {
	hosts := splitAddresses(v)
	allowed := errors.New("allowed are host names and IP addresses, separated by commas, or *")
	if len(hosts) == 0 {
		return value{}, allowed
	}
	for _, a := range hosts {
		if !isHost(a) {
			return value{}, hintedError{allowed, strings.ReplaceAll(hostHint(a), "backend_portN", "port")}
		}
	}
	return value{hosts, v}, nil
}

func parseNetworkList(v string) (value, error) {
	list, err := parseNetworks(v)
	var out []string
	for _, n := range list {
		out = append(out, n.String())
	}
	return value{list, strings.Join(out, ",")}, err
}

// parseAddress: "" is missing.
func parseAddress(v string) (value, error) {
	if v == "" {
		return value{netip.Addr{}, ""}, nil
	}
	a, err := netip.ParseAddr(v)
	if err != nil {
		return value{}, hintedError{errors.New("allowed is an IPv4 or IPv6 address"), hostHint(v)}
	}
	return value{a, a.String()}, nil
}

// printable: what syslog takes for a program's name.
func printable(v string) error {
	if v == "" || len(v) > maxSyslogIdent || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("allowed are 1 to %d bytes of printable text", maxSyslogIdent)
	}
	return nil
}

// assign puts a parsed value where it belongs: a pointer to its type, or to one of the same kind.
func assign(target any, v value) {
	to := reflect.ValueOf(target).Elem()
	to.Set(reflect.ValueOf(v.typed).Convert(to.Type()))
}

// maxHostName is that of DNS, with something to spare.
const maxHostName = 255

// isHost: a name, or an IP address; "" is missing.
func isHost(v string) bool {
	if _, err := netip.ParseAddr(v); err == nil {
		return true
	}
	return len(v) <= maxHostName && !strings.ContainsAny(v, " \t,/'\":;@=[]") &&
		!strings.ContainsFunc(v, func(r rune) bool {
			return isTypographic(r) || !unicode.IsPrint(r)
		})
}

// parseBool understands what a PostgreSQL server does: on, off, true, false, yes, no, their
// unambiguous beginnings, 1 and 0.
func parseBool(v string) (value, error) {
	s := strings.ToLower(v)
	begins := func(word string, least int) bool { return len(s) >= least && strings.HasPrefix(word, s) }
	switch {
	case s == "1", begins("on", 2), begins("true", 1), begins("yes", 1):
		return value{true, "on"}, nil
	case s == "0", begins("off", 2), begins("false", 1), begins("no", 1):
		return value{false, "off"}, nil
	}
	return value{}, errors.New("allowed are on and off (also true, false, yes, no, 1, 0)")
}

func splitAddresses(v string) (out []string) {
	for _, a := range strings.Split(v, ",") {
		if a = trimSpace(a); a != "" && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// parseNetworks reads a list of networks, or of single addresses, in canonical form.
func parseNetworks(v string) (out []netip.Prefix, err error) {
	allowed := errors.New("allowed are networks such as 192.0.2.0/24 and 2001:db8::/32, separated by commas")
	for _, n := range splitAddresses(v) {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			a, aerr := netip.ParseAddr(n)
			if aerr != nil || a.Zone() != "" {
				return nil, allowed
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if a := p.Addr(); a.Is4In6() {
			if p.Bits() < 96 {
				return nil, allowed
			}
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

var sizeUnits = []string{"B", "kB", "MB", "GB", "TB"} // as a PostgreSQL server has them

// errLag is what is allowed.
var errLag = errors.New("allowed are an integer with one of the units B, kB, MB, GB, TB, ms, s, min, h, d, and '' for no limit")

// ParseLag reads the most that a standby may be behind: a size or a duration, an integer with its
// unit; "": there is no limit. The error is the text of what is allowed.
func ParseLag(v string) (heartbeat.LagLimit, error) {
	if v == "" {
		return heartbeat.LagLimit{}, nil
	}
	digits := v[:len(v)-len(strings.TrimLeft(v, "0123456789"))]
	unit := trimSpace(v[len(digits):])
	text := digits + unit
	if i := slices.Index(sizeUnits, unit); i >= 0 {
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > math.MaxInt64>>(10*i) {
			return heartbeat.LagLimit{}, errLag
		}
		return heartbeat.LagLimit{By: heartbeat.ByBytes, Max: n << (10 * i), Text: text}, nil
	}
	d, err := duration.Parse(text, 0, duration.Most)
	if err != nil || unit == "" {
		return heartbeat.LagLimit{}, errLag
	}
	return heartbeat.LagLimit{By: heartbeat.ByTime, Max: d.Milliseconds(), Text: text}, nil
}

// ---- users of this host, as admin_users and stats_users name them ----

// Everybody stands for all users.
const Everybody = "*"

// users checks a list of them.
func users(allowed string, also ...string) func(string) error {
	return func(v string) error {
		for _, u := range splitAddresses(v) {
			if !slices.Contains(also, u) && (u == Everybody || strings.ContainsAny(u, " \t:/'\"@")) {
				return errors.New("allowed are " + allowed)
			}
		}
		return nil
	}
}

// unknownUsers warns of names that nobody has.
func unknownUsers(c *Config, diags []Diagnostic) []Diagnostic {
	if c == nil {
		return diags
	}
	for name, list := range map[string][]string{"admin_users": c.AdminUsers, "stats_users": c.StatsUsers} {
		for _, u := range list {
			if _, err := strconv.ParseUint(u, 10, 32); err == nil || u == Everybody {
				continue
			}
			if _, err := user.Lookup(u); err != nil {
				at := c.Setting(name).given.place
				diags = append(diags, Diagnostic{File: at.file, Line: at.line, Warning: true,
					Text: fmt.Sprintf("parameter %q names the user %q, whom this host does not know", name, Clip(u)),
					Hint: "Give the number of a user whom a directory service knows."})
			}
		}
	}
	return diags
}
