package heartbeat

// The two messages with which conmgr proves that it has its key: docs/protocol.md 1.7. Pure.

import (
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// Hoarded tells whether an answer to what was sent then is no sign of life any more, as a BEAT that
// echoes it would not be: somebody on the way could have kept it back.
func Hoarded(asked, now Mono, timeout time.Duration) bool { return now.Sub(asked) > staleAfter*timeout }

// AppendChallenge appends a CHALLENGE.
func AppendChallenge(b []byte, nonce proof.Nonce) []byte {
	return appendBytes(b, TypeChallenge, nonce[:])
}

// CheckChallenge tells whether a payload is that of a CHALLENGE: what it says goes into the
// transcript as it came.
func CheckChallenge(p []byte) error {
	if len(p) < proof.NonceSize {
		return malformed("malformed CHALLENGE of %d bytes", len(p))
	}
	return nil
}

// AppendResponse appends a RESPONSE.
func AppendResponse(b []byte, response [proof.ResponseSize]byte) []byte {
	return appendBytes(b, TypeResponse, response[:])
}

// ParseResponse decodes a RESPONSE.
func ParseResponse(p []byte) ([]byte, error) {
	if len(p) < proof.ResponseSize {
		return nil, malformed("malformed RESPONSE of %d bytes", len(p))
	}
	return p[:proof.ResponseSize], nil
}

func appendBytes(b []byte, t Type, payload []byte) []byte {
	start := len(b)
	return end(append(begin(b, t), payload...), start)
}
