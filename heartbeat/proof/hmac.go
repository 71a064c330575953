package proof

// HMAC-SHA-256 (RFC 2104) of short messages, on the stack: crypto/hmac keeps some hundred bytes a
// key, or makes them anew for each frame, and a server has thousands of keys. Its test compares the
// two. HKDF (RFC 5869) of one block is two HMACs.

import "crypto/sha256"

const (
	sumSize   = sha256.Size
	blockSize = sha256.BlockSize
	// longest message: what stands before a frame, and a frame.
	longest = 128 + 512
)

type sum = [sumSize]byte

// hmacOf is HMAC(key, all parts): keys of 32 bytes, messages up to longest.
func hmacOf(key *sum, parts ...[]byte) sum {
	var b [blockSize + longest]byte
	for i := range blockSize {
		b[i] = 0x36
	}
	for i, k := range key {
		b[i] ^= k
	}
	n := blockSize
	for _, p := range parts {
		n += copy(b[n:], p)
	}
	inner := sha256.Sum256(b[:n])
	for i := range blockSize {
		b[i] ^= 0x36 ^ 0x5c
	}
	copy(b[blockSize:], inner[:])
	return sha256.Sum256(b[:blockSize+sumSize])
}

// extract is HKDF-Extract.
func extract(salt *sum, secret *Secret) sum { return hmacOf(salt, secret[:]) }

// expand is HKDF-Expand to 32 bytes.
func expand(prk *sum, info string) sum { return hmacOf(prk, []byte(info), []byte{1}) }
