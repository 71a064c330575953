package proof

// From HELLO and CHALLENGE to RESPONSE and WELCOME. Frames are whole ones, with their headers.

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
)

// Sizes in bytes of what is appended to frames.
const (
	ResponseSize   = sumSize
	WelcomeMACSize = sumSize
	FrameMACSize   = 16
)

// Transcript is TH: what both ends have said before anybody has proved anything.
type Transcript = sum

// TranscriptOf is that of a HELLO and a CHALLENGE. On the stack, as all of a handshake: thousands
// come at once when a worker is restarted.
func TranscriptOf(hello, challenge []byte) Transcript {
	var b [17 + 2*512]byte
	return sha256.Sum256(append(append(append(b[:0], "PGWD/2 transcript"...), hello...), challenge...))
}

// Handshake has the keys of one connection.
type Handshake struct {
	Key      *Key
	Number   Number // of Key, by Check
	th, prk  sum
	response sum
}

// NewHandshake is conmgr's.
func NewHandshake(k *Key, th Transcript) *Handshake {
	h := &Handshake{Key: k, th: th, prk: extract(&th, &k.secret)}
	h.response = respond(&h.prk, &th)
	return h
}

func respond(prk, th *sum) sum {
	kc := expand(prk, "PGWD/2 conmgr")
	return hmacOf(&kc, th[:])
}

// Response is the payload of RESPONSE.
func (h *Handshake) Response() [ResponseSize]byte { return h.response }

// Check is the watchdog's: nil if a RESPONSE proves nothing. Both secrets that a keyid may have are
// tried, and where one is missing, or all of it, another one that fits nobody: the work is the
// same.
func (ks *Keys) Check(id KeyID, from netip.Addr, th Transcript, response []byte) *Handshake {
	first, end := ks.of(id)
	var found *Handshake
	for i := first; i < first+perID; i++ {
		known := i < end && ks.believes(i, from)
		secret := Secret{}
		if known {
			secret = ks.all[i].secret
		}
		prk := extract(&th, &secret)
		right := respond(&prk, &th)
		if subtle.ConstantTimeCompare(right[:], response) == 1 && known {
			found = &Handshake{Key: &ks.all[i], Number: Number(i + 1), th: th, prk: prk, response: right}
		}
	}
	return found
}

func (h *Handshake) welcomeMAC(frame []byte) sum {
	kw := expand(&h.prk, "PGWD/2 watchdog")
	return hmacOf(&kw, h.th[:], h.response[:], frame)
}

// SealWelcome ends the WELCOME that begins at start in b with its MAC.
func (h *Handshake) SealWelcome(b []byte, start int) []byte {
	lengthen(b[start:], WelcomeMACSize)
	mac := h.welcomeMAC(b[start:])
	return append(b, mac[:]...)
}

// OpenWelcome tells whether the other end has proved that it knows the secret. The payload is what
// is left without the MAC.
func (h *Handshake) OpenWelcome(frame []byte) (payload []byte, ok bool) {
	n := len(frame) - WelcomeMACSize
	if n < headerSize {
		return nil, false
	}
	mac := h.welcomeMAC(frame[:n])
	return frame[headerSize:n], subtle.ConstantTimeCompare(mac[:], frame[n:]) == 1
}

// Link is for the frames that follow.
func (h *Handshake) Link() Link { return Link{frames: expand(&h.prk, "PGWD/2 frames")} }

// headerSize is heartbeat.HeaderSize: two bytes of length come first.
const headerSize = 4

// lengthen has a frame's header tell that more bytes follow.
func lengthen(frame []byte, by int) {
	binary.BigEndian.PutUint16(frame, uint16(len(frame)+by))
}
