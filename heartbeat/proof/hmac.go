package proof

// HMAC-SHA-256 (RFC 2104) of short messages, on the stack: crypto/hmac keeps some hundred bytes a
// key, or makes them anew for each frame, and a server has thousands of keys. Its test compares the
// two. HKDF (RFC 5869) of one block is two HMACs.

import (
	"crypto/sha256"
	"encoding/binary"
)

const (
	sumSize   = sha256.Size
	blockSize = sha256.BlockSize
	// longest message: what stands before a frame, and a frame.
	longest = 128 + 512
	// short is what a BEAT has at most, of which there are most by far: memory costs time, too.
	short = 128

	innerPad, outerPad = 0x3636363636363636, 0x5c5c5c5c5c5c5c5c
)

type sum = [sumSize]byte

// hmacOf is HMAC(key, all parts): keys of 32 bytes, messages up to longest.
func hmacOf(key *sum, parts ...[]byte) sum {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > short {
		var b [blockSize + longest]byte
		return hmacIn(b[:], key, parts)
	}
	var b [blockSize + short]byte
	return hmacIn(b[:], key, parts)
}

// hmacIn works in b, which has room for a block and all parts.
func hmacIn(b []byte, key *sum, parts [][]byte) sum {
	padded(b, key, innerPad)
	n := blockSize
	for _, p := range parts {
		n += copy(b[n:], p)
	}
	inner := sha256.Sum256(b[:n])
	padded(b, key, outerPad)
	copy(b[blockSize:], inner[:])
	return sha256.Sum256(b[:blockSize+sumSize])
}

// padded makes the first block of b the key, with a pad; eight bytes at a time.
func padded(b []byte, key *sum, pad uint64) {
	for i := 0; i < sumSize; i += 8 {
		binary.NativeEndian.PutUint64(b[i:], binary.NativeEndian.Uint64(key[i:])^pad)
	}
	for i := sumSize; i < blockSize; i += 8 {
		binary.NativeEndian.PutUint64(b[i:], pad)
	}
}

// extract is HKDF-Extract.
func extract(salt *sum, secret *Secret) sum { return hmacOf(salt, secret[:]) }

// expand is HKDF-Expand to 32 bytes.
func expand(prk *sum, info string) sum { return hmacOf(prk, []byte(info), []byte{1}) }
