package proof

// The file in which keys stand. Errors name the file and the line, and what is allowed; they repeat
// nothing of a line but a keyid that is one, as a secret may stand anywhere by mistake.

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// MaxFile is the largest key file in bytes: enough for a hundred thousand keys.
const MaxFile = 16 << 20

const lineForm = "a line is: keyid secret [network,...]"

// ParseFile reads the text of a key file; name is for errors.
func ParseFile(name, text string) (*Keys, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%s: the key file has %d bytes, more than %d", name, len(text), MaxFile)
	}
	all := make([]placed, 0, strings.Count(text, "\n")+1)
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		k, from, err := parseKey(fields)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		all = append(all, placed{k, from, n})
	}
	return collect(name, all)
}

// placed is a key as it stands in a line.
type placed struct {
	Key
	from *networks
	line int
}

// collect orders keys by their ids.
func collect(name string, all []placed) (*Keys, error) {
	slices.SortStableFunc(all, func(a, b placed) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	ks := &Keys{all: make([]Key, len(all))}
	for i := range all {
		k := &all[i]
		ks.all[i] = k.Key
		if k.from != nil && ks.from == nil {
			ks.from = make([]*networks, len(all))
		}
		if ks.from != nil {
			ks.from[i] = k.from
		}
		if i == 0 || k.ID != all[i-1].ID {
			ks.ids++
			continue
		}
		if i >= perID && k.ID == all[i-perID].ID {
			return nil, fmt.Errorf("%s:%d: keyid %q stands here for the third time: a keyid has at most two secrets, for rotation",
				name, k.line, k.ID)
		}
		if k.Same(&all[i-1].Key) {
			return nil, fmt.Errorf("%s:%d: keyid %q stands here again with the same secret", name, k.line, k.ID)
		}
	}
	return ks, nil
}

func parseKey(fields []string) (k Key, from *networks, err error) {
	if len(fields) == 1 || len(fields) > 3 {
		return k, nil, fmt.Errorf("%s; this one has %d fields", lineForm, len(fields))
	}
	id, err := ParseKeyID(fields[0])
	if err != nil {
		return k, nil, err
	}
	k.ID = id
	secret, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return k, nil, fmt.Errorf("the secret of keyid %q is not base64 (cm_ctl genkey makes one)", id)
	}
	if len(secret) != SecretSize {
		return k, nil, fmt.Errorf("the secret of keyid %q has %d bytes, and not %d (cm_ctl genkey makes one)", id,
			len(secret), SecretSize)
	}
	copy(k.secret[:], secret)
	if k.secret == (Secret{}) {
		return k, nil, fmt.Errorf("the secret of keyid %q is nothing but zeros (cm_ctl genkey makes one)", id)
	}
	if len(fields) == 3 {
		list, err := ParseNetworks(fields[2])
		if err != nil {
			return k, nil, fmt.Errorf("%w (keyid %q)", err, id)
		}
		from = (*networks)(&list)
	}
	return k, from, nil
}

// ParseNetworks reads a list of networks, separated by commas: 192.0.2.0/24, 2001:db8::/32, or an
// address alone. The error names the place in the list.
func ParseNetworks(list string) (all []netip.Prefix, err error) {
	for i, s := range strings.Split(list, ",") {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(s); err == nil && a.Zone() == "" {
				p = netip.PrefixFrom(a, a.BitLen())
			} else {
				return nil, fmt.Errorf("network %d of the list is none: allowed are networks as in 192.0.2.0/24 or"+
					" 2001:db8::/32, and addresses, separated by commas", i+1)
			}
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return nil, fmt.Errorf("network %d of the list holds more than the IPv4 addresses: write it as IPv4", i+1)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p != p.Masked() {
			return nil, fmt.Errorf("network %d of the list has bits to the right of its mask: %s is the network", i+1,
				p.Masked())
		}
		all = append(all, p)
	}
	return all, nil
}
