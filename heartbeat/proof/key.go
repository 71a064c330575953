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

// Key is a secret and its name.
type Key struct {
	ID     KeyID
	secret Secret
}

type networks []netip.Prefix

// NewKey returns a key of one's own.
func NewKey(id KeyID, secret Secret) *Key { return &Key{ID: id, secret: secret} }

// Line is the line of a key file for a key.
func Line(id KeyID, secret Secret) string {
	return id.String() + " " + base64.StdEncoding.EncodeToString(secret[:])
}

// hold tells whether an address is in one of them; nil holds all.
func (ns *networks) hold(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	return ns == nil || slices.ContainsFunc(*ns, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Same tells whether both are one secret of one name.
func (k *Key) Same(o *Key) bool {
	return k.ID == o.ID && subtle.ConstantTimeCompare(k.secret[:], o.secret[:]) == 1
}

// perID is how many secrets a keyid may have: the one that goes, and the one that comes.
const perID = 2

// Keys are those of a key file. Any goroutine; a nil one has none. A server has thousands of them,
// which lie in one piece of memory, without a pointer in it.
type Keys struct {
	all  []Key       // by ID
	from []*networks // from which each is believed; nil: all from everywhere
	ids  int
}

// Number is a key's among Keys, from 1. It takes less memory than a pointer. 0: none of them.
type Number uint32

// At is the key with a number.
func (ks *Keys) At(n Number) *Key { return &ks.all[n-1] }

// believes tells whether a key counts from an address.
func (ks *Keys) believes(i int, a netip.Addr) bool { return ks.from == nil || ks.from[i].hold(a) }

// Len is the number of keyids.
func (ks *Keys) Len() int {
	if ks == nil {
		return 0
	}
	return ks.ids
}

// of are those of a keyid: from the first one up to before the second number.
func (ks *Keys) of(id KeyID) (first, end int) {
	if ks == nil {
		return 0, 0
	}
	first, _ = slices.BinarySearchFunc(ks.all, id, func(k Key, id KeyID) int { return bytes.Compare(k.ID[:], id[:]) })
	for end = first; end < len(ks.all) && ks.all[end].ID == id; {
		end++
	}
	return first, end
}

// Find is a key's number among them, 0 if it is not believed any more, from an address.
func (ks *Keys) Find(k *Key, from netip.Addr) Number {
	first, end := ks.of(k.ID)
	for i := first; i < end; i++ {
		if ks.all[i].Same(k) && ks.believes(i, from) {
			return Number(i + 1)
		}
	}
	return 0
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
