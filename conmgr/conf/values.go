package conf

// The values of conmgr.conf by their types: what is allowed, and their canonical spelling. Pure
// functions.

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const maxSyslogIdent = 64

// check returns the value in its canonical spelling, or the text of what is allowed.
func (p *Param) check(v string) (string, error) {
	switch p.Type {
	case Integer:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || v[0] == '+' || n < p.Min || n > p.Max {
			return "", fmt.Errorf("allowed are %d to %d", p.Min, p.Max)
		}
		return strconv.FormatInt(n, 10), nil
	case Networks:
		list, err := parseNetworks(v)
		var out []string
		for _, n := range list {
			out = append(out, n.String())
		}
		return strings.Join(out, ","), err
	case Octal:
		n, err := strconv.ParseUint(strings.TrimPrefix(v, "0o"), 8, 64)
		if err != nil || n > uint64(p.Max) {
			return "", errors.New("allowed are octal numbers from 0000 to 0777")
		}
		return fmt.Sprintf("%04o", n), nil
	case Duration:
		if v == p.Also && v != "" {
			return v, nil
		}
		if _, err := parseDuration(v, p.Min, p.Max); err != nil && p.Also != "" {
			return "", fmt.Errorf("%w, and %s", err, p.Also)
		} else if err != nil {
			return "", err
		}
	case Enum:
		for _, a := range p.Values {
			if strings.EqualFold(a, v) {
				return a, nil
			}
		}
		return "", fmt.Errorf("allowed are %s", strings.Join(p.Values, ", "))
	case Boolean:
		return parseBool(v)
	case List:
		var out []string
		for _, e := range strings.Split(v, ",") {
			e = strings.ToLower(trimSpace(e))
			if !slices.Contains(p.Values, e) {
				return "", fmt.Errorf("allowed are %s, separated by commas", strings.Join(p.Values, ", "))
			}
			if !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
		return strings.Join(out, ","), nil
	case IPAddress:
		if v == "" {
			return "", nil // missing
		}
		a, err := netip.ParseAddr(v)
		if err != nil {
			return "", hintedError{errors.New("allowed is an IPv4 or IPv6 address"), hostHint(v)}
		}
		return a.String(), nil
	case HostName:
		if !isHost(v) {
			return "", hintedError{errors.New("allowed is one host name or IP address"), hostHint(v)}
		}
	case String:
		if p.Name == "listen_addresses" && len(splitAddresses(v)) == 0 {
			return "", errors.New("allowed are host names and IP addresses, separated by commas, or *")
		}
		if p.Name == "listen_addresses" {
			for _, a := range splitAddresses(v) {
				if !isHost(a) {
					err := errors.New("allowed are host names and IP addresses, separated by commas, or *")
					return "", hintedError{err, strings.ReplaceAll(hostHint(a), "backend_portN", "port")}
				}
			}
		}
		if p.Name == "syslog_ident" && (v == "" || len(v) > maxSyslogIdent ||
			strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) })) {
			return "", fmt.Errorf("allowed are 1 to %d bytes of printable text", maxSyslogIdent)
		}
	}
	return v, nil
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
func parseBool(v string) (string, error) {
	s := strings.ToLower(v)
	begins := func(word string, least int) bool { return len(s) >= least && strings.HasPrefix(word, s) }
	switch {
	case s == "1", begins("on", 2), begins("true", 1), begins("yes", 1):
		return "on", nil
	case s == "0", begins("off", 2), begins("false", 1), begins("no", 1):
		return "off", nil
	}
	return "", errors.New("allowed are on and off (also true, false, yes, no, 1, 0)")
}

func splitAddresses(v string) (out []string) {
	for _, a := range strings.Split(v, ",") {
		if a = trimSpace(a); a != "" && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

var durationUnits = []struct {
	name string
	ms   int64
}{{"ms", 1}, {"min", 60_000}, {"s", 1000}, {"h", 3_600_000}, {"d", 86_400_000}}

// parseDuration reads an integer with an optional unit; without one it is seconds.
func parseDuration(v string, lo, hi int64) (time.Duration, error) {
	allowed := fmt.Errorf("allowed are %d ms to %d s, written as seconds or with one of the units ms, s, min, h, d", lo,
		hi/1000)
	n := 0
	for n < len(v) && v[n] >= '0' && v[n] <= '9' {
		n++
	}
	num, err := strconv.ParseInt(v[:n], 10, 64)
	if err != nil {
		return 0, allowed
	}
	mult := int64(1000)
	if unit := trimSpace(v[n:]); unit != "" {
		i := slices.IndexFunc(durationUnits, func(u struct {
			name string
			ms   int64
		}) bool {
			return u.name == unit
		})
		if i < 0 {
			return 0, allowed
		}
		mult = durationUnits[i].ms
	}
	if num > hi/mult || num*mult < lo {
		return 0, allowed
	}
	return time.Duration(num*mult) * time.Millisecond, nil
}

// parseNetworks reads a list of networks, or of single addresses, in canonical form.
func parseNetworks(v string) (out []netip.Prefix, err error) {
	for _, n := range splitAddresses(v) {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			a, aerr := netip.ParseAddr(n)
			if aerr != nil || a.Zone() != "" {
				return nil, fmt.Errorf("allowed are networks such as 192.0.2.0/24 and 2001:db8::/32, separated by commas")
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if a := p.Addr(); a.Is4In6() {
			if p.Bits() < 96 {
				return nil, fmt.Errorf("allowed are networks such as 192.0.2.0/24 and 2001:db8::/32, separated by commas")
			}
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
