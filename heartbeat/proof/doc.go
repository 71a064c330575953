// Package proof is the arithmetic of pre-shared keys in the heartbeat protocol: the key file, the
// keys of a connection, and the proof that each frame carries. docs/protocol.md 1.7 is its
// specification.
//
// It is pure: no file, no clock, no randomness. Nonces come from outside, and so do the bytes of a
// key file.
//
//	key.go        who has which secret, and from where
//	keyfile.go    the file in which they stand
//	handshake.go  from HELLO and CHALLENGE to RESPONSE and WELCOME
//	link.go       the frames after it
//	hmac.go       HMAC-SHA-256 without memory of its own
//
// Comparisons take the same time whatever is compared, and a key that is not known is as much work
// as one that is.
package proof
