package proof

// The file in which keys stand. Errors name the file and the line, and what is allowed; they repeat
// nothing of a line but a keyid that is one, as a secret may stand anywhere by mistake.

import (
	"encoding/base64"
	"fmt"
	"net/netip"
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
	ks := &Keys{byID: make(map[KeyID][]*Key)}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		k, err := parseKey(fields)
		if err == nil {
			err = ks.add(k)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	return ks, nil
}

func parseKey(fields []string) (*Key, error) {
	if len(fields) == 1 || len(fields) > 3 {
		return nil, fmt.Errorf("%s; this one has %d fields", lineForm, len(fields))
	}
	id, err := ParseKeyID(fields[0])
	if err != nil {
		return nil, err
	}
	k := &Key{ID: id}
	secret, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return nil, fmt.Errorf("the secret of keyid %q is not base64 (cm_ctl genkey makes one)", id)
	}
	if len(secret) != SecretSize {
		return nil, fmt.Errorf("the secret of keyid %q has %d bytes, and not %d (cm_ctl genkey makes one)", id, len(secret),
			SecretSize)
	}
	copy(k.secret[:], secret)
	if k.secret == (Secret{}) {
		return nil, fmt.Errorf("the secret of keyid %q is nothing but zeros (cm_ctl genkey makes one)", id)
	}
	if len(fields) == 3 {
		if k.networks, err = ParseNetworks(fields[2]); err != nil {
			return nil, fmt.Errorf("%w (keyid %q)", err, id)
		}
	}
	return k, nil
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

// add takes a key in.
func (ks *Keys) add(k *Key) error {
	list := ks.byID[k.ID]
	if len(list) == perID {
		return fmt.Errorf("keyid %q stands here for the third time: a keyid has at most two secrets, for rotation", k.ID)
	}
	for _, o := range list {
		if o.Same(k) {
			return fmt.Errorf("keyid %q stands here again with the same secret", k.ID)
		}
	}
	ks.byID[k.ID] = append(list, k)
	return nil
}
