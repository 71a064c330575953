package proof

// Who has which secret, and from where it may be used.

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
)

// Sizes in bytes.
const (
	SecretSize = 32
	NonceSize  = 32
	KeyIDSize  = 16
)

// KeyID names a key, and by that a client host: zero-padded. The zero value: none.
type KeyID [KeyIDSize]byte

func (id KeyID) String() string { return string(bytes.TrimRight(id[:], "\x00")) }

// allowedID says what a keyid is.
const allowedID = "1 to 16 characters out of A-Z, a-z, 0-9, '_', '.' and '-'"

// ParseKeyID checks a name. The error does not repeat it: it may be a secret in the wrong place.
func ParseKeyID(s string) (id KeyID, err error) {
	if len(s) < 1 || len(s) > KeyIDSize {
		return id, fmt.Errorf("a keyid has %s: this one has %d", allowedID, len(s))
	}
	for _, c := range []byte(s) {
		if !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-') {
			return id, fmt.Errorf("a keyid has %s: this one has another one", allowedID)
		}
	}
	copy(id[:], s)
	return id, nil
}

// Secret is what both ends know and nobody else. It does not print.
type Secret [SecretSize]byte

// Format implements fmt.Formatter.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(secret)")) }

// Format implements fmt.Formatter, which does not ask the fields that are not exported.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("key " + k.ID.String())) }

// Nonce is a number used once.
type Nonce = [NonceSize]byte

// Key is one line of a key file.
type Key struct {
	ID       KeyID
	secret   Secret
	networks *networks // from which it is believed; nil: from everywhere
}

type networks []netip.Prefix

// NewKey returns a key that is believed from everywhere.
func NewKey(id KeyID, secret Secret) *Key { return &Key{ID: id, secret: secret} }

// Line is the line of a key file for a key.
func Line(id KeyID, secret Secret) string {
	return id.String() + " " + base64.StdEncoding.EncodeToString(secret[:])
}

// from tells whether the key is believed from an address.
func (k *Key) from(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	return k.networks == nil || slices.ContainsFunc(*k.networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Same tells whether both are one secret of one name.
func (k *Key) Same(o *Key) bool {
	return k.ID == o.ID && subtle.ConstantTimeCompare(k.secret[:], o.secret[:]) == 1
}

// perID is how many secrets a keyid may have: the one that goes, and the one that comes.
const perID = 2

// Keys are those of a key file. Any goroutine; a nil one has none. A server has thousands of them,
// which lie in one piece of memory.
type Keys struct {
	all []Key // by ID
	ids int
}

// Len is the number of keyids.
func (ks *Keys) Len() int {
	if ks == nil {
		return 0
	}
	return ks.ids
}

// of are those of a keyid.
func (ks *Keys) of(id KeyID) []Key {
	if ks == nil {
		return nil
	}
	i, _ := slices.BinarySearchFunc(ks.all, id, func(k Key, id KeyID) int { return bytes.Compare(k.ID[:], id[:]) })
	n := 0
	for i+n < len(ks.all) && ks.all[i+n].ID == id {
		n++
	}
	return ks.all[i : i+n]
}

// Find is a key as it stands among them, nil if it is not believed any more, from an address.
func (ks *Keys) Find(k *Key, from netip.Addr) *Key {
	list := ks.of(k.ID)
	if i := slices.IndexFunc(list, func(o Key) bool { return o.Same(k) && o.from(from) }); i >= 0 {
		return &list[i]
	}
	return nil
}

// Only is the key of a file that has one.
func (ks *Keys) Only() (*Key, error) {
	n := 0
	if ks != nil {
		n = len(ks.all)
	}
	if n == 1 {
		return &ks.all[0], nil
	}
	return nil, fmt.Errorf("there are %d keys: conmgr has exactly one, that of its host", n)
}
