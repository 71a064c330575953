package heartbeat

// The messages, encode and decode side by side. Decoders accept a longer payload than they know (a
// newer peer has appended to it) and refuse a shorter one.

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// Settings travel as milliseconds in 32 bits; the lower bound keeps one peer from making the server
// busy.
const (
	MinInterval = 10 * time.Millisecond
	MaxInterval = math.MaxInt32 * time.Millisecond
)

var magic = [4]byte{'P', 'G', 'W', 'D'}

// ID is a random number that identifies a conmgr, one run of its process, or one boot of a machine.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Hello is conmgr's first message.
type Hello struct {
	MinVersion, MaxVersion uint16
	ID                     ID
	Boot                   ID     // identifies the boot of its machine; zero: not known
	Generation             uint64 // times that this conmgr has declared this instance lost
	Interval, Timeout      time.Duration
	Flags                  uint32
	// Attempt rises by each HELLO of one process to one instance, from 1: the latest connection is
	// the one with the highest. 0: not told, as conmgr 1.0 does not. A HELLO of it replaces the
	// connection before.
	Attempt uint32
	// KeyID is that of conmgr's key, and Nonce is used once. Zero: without a key.
	KeyID proof.KeyID
	Nonce proof.Nonce
	// Grace is for how long conmgr, if its kernel closes the connection, may take to come back.
	Grace time.Duration
	// Incarnation is random, and another one for each process: a conmgr that was started again has
	// the ID of its predecessor. Zero: not told, and the ID is of this process alone.
	Incarnation ID
}

const (
	helloSize   = 4 + 2 + 2 + 16 + 16 + 8 + 4 + 4 + 4
	attemptSize = 4
	helloKey    = proof.KeyIDSize + proof.NonceSize
	graceSize   = 4
	helloGrace  = graceSize + 16 // and the incarnation
)

// Append appends the frame to b.
func (h Hello) Append(b []byte) []byte {
	start := len(b)
	b = begin(b, TypeHello)
	b = append(b, magic[:]...)
	b = binary.BigEndian.AppendUint16(b, h.MinVersion)
	b = binary.BigEndian.AppendUint16(b, h.MaxVersion)
	b = append(b, h.ID[:]...)
	b = append(b, h.Boot[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Generation)
	b = binary.BigEndian.AppendUint32(b, uint32(h.Interval/time.Millisecond))
	b = binary.BigEndian.AppendUint32(b, uint32(h.Timeout/time.Millisecond))
	b = binary.BigEndian.AppendUint32(b, h.Flags)
	grace := h.Grace != 0 || h.Incarnation != (ID{})
	if h.Attempt != 0 || h.KeyID != (proof.KeyID{}) || grace {
		b = binary.BigEndian.AppendUint32(b, h.Attempt)
	}
	if h.KeyID != (proof.KeyID{}) || grace {
		b = append(append(b, h.KeyID[:]...), h.Nonce[:]...)
	}
	if grace {
		b = binary.BigEndian.AppendUint32(b, uint32(h.Grace/time.Millisecond))
		b = append(b, h.Incarnation[:]...)
	}
	return end(b, start)
}

// CheckHelloPrefix tells from the first bytes of a connection that no HELLO can come of them, as
// early as they show it.
func CheckHelloPrefix(b []byte) error {
	ok := true
	if len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		ok = n >= HeaderSize+helloSize && n <= MaxFrame
	}
	if len(b) >= 3 {
		ok = ok && (Type(b[2]) == TypeHello || Type(b[2]) == TypeAsk)
	}
	if len(b) > HeaderSize {
		got := b[HeaderSize:min(len(b), HeaderSize+len(magic))]
		ok = ok && bytes.HasPrefix(magic[:], got)
	}
	if !ok {
		return malformed("this is the heartbeat port of watchdog, and the first message is not a HELLO")
	}
	return nil
}

// ParseHello decodes and checks a HELLO: magic, ranges and versions. The error is a *ProtocolError.
func ParseHello(p []byte) (h Hello, err error) {
	if len(p) < helloSize || !bytes.Equal(p[:4], magic[:]) {
		return h, malformed("malformed HELLO of %d bytes", len(p))
	}
	h.MinVersion = binary.BigEndian.Uint16(p[4:])
	h.MaxVersion = binary.BigEndian.Uint16(p[6:])
	copy(h.ID[:], p[8:24])
	copy(h.Boot[:], p[24:40])
	h.Generation = binary.BigEndian.Uint64(p[40:])
	h.Interval = time.Duration(binary.BigEndian.Uint32(p[48:])) * time.Millisecond
	h.Timeout = time.Duration(binary.BigEndian.Uint32(p[52:])) * time.Millisecond
	h.Flags = binary.BigEndian.Uint32(p[56:])
	if rest := p[helloSize:]; len(rest) >= attemptSize {
		h.Attempt = binary.BigEndian.Uint32(rest)
		h.parseRest(rest[attemptSize:])
	}
	if h.MinVersion > MaxVersion || h.MaxVersion < MinVersion || h.MinVersion > h.MaxVersion {
		return h, &ProtocolError{RefusedVersion, fmt.Sprintf("conmgr speaks versions %d to %d of the heartbeat protocol, watchdog %d to %d",
			h.MinVersion, h.MaxVersion, MinVersion, MaxVersion)}
	}
	if h.Generation > math.MaxInt64 {
		return h, malformed("generation %d is too large", h.Generation)
	}
	for _, s := range []struct {
		name string
		v    time.Duration
	}{{"heartbeat_interval", h.Interval}, {"heartbeat_timeout", h.Timeout}} {
		if s.v < MinInterval || s.v > MaxInterval {
			return h, &ProtocolError{RefusedSetting, fmt.Sprintf("%s is %d ms: allowed are %d to %d",
				s.name, s.v.Milliseconds(), MinInterval.Milliseconds(), MaxInterval.Milliseconds())}
		}
	}
	return h, nil
}

// parseRest reads what only version 2 has.
func (h *Hello) parseRest(p []byte) {
	if len(p) < helloKey || h.MaxVersion < 2 {
		return
	}
	if p[0] != 0 {
		copy(h.KeyID[:], p)
		copy(h.Nonce[:], p[proof.KeyIDSize:])
	}
	if p = p[helloKey:]; len(p) >= helloGrace {
		h.Grace = time.Duration(binary.BigEndian.Uint32(p)) * time.Millisecond
		copy(h.Incarnation[:], p[graceSize:])
	}
}

// Version is the one that a watchdog chooses for the peer of h, which ParseHello has accepted.
func (h Hello) Version() uint16 { return min(h.MaxVersion, MaxVersion) }

// AttributeFlags are the properties of an instance that decide what it can be used for.
type AttributeFlags uint32

const (
	InRecovery   AttributeFlags = 1 << 0 // a standby
	ReadOnly     AttributeFlags = 1 << 1 // default_transaction_read_only is on
	ShuttingDown AttributeFlags = 1 << 2 // takes no new sessions
	Draining     AttributeFlags = 1 << 3 // takes new sessions, and is to get none: it is to be left
)

// Attributes is what an instance says of itself in WELCOME and in every BEAT.
type Attributes struct {
	Flags    AttributeFlags
	Timeline uint32 // 0: not known yet
}

// Has tells whether all of the flags are set.
func (a Attributes) Has(f AttributeFlags) bool { return a.Flags&f == f }

// Role is "primary" or "standby".
func (a Attributes) Role() string {
	if a.Has(InRecovery) {
		return "standby"
	}
	return "primary"
}

// IsReadOnly tells whether a new session would be read only by default.
func (a Attributes) IsReadOnly() bool { return a.Flags&(InRecovery|ReadOnly) != 0 }

// String is the attribute list of docs/protocol.md 2.2, for example "primary,read-write".
func (a Attributes) String() string {
	if a.IsReadOnly() {
		return a.Role() + ",read-only"
	}
	return a.Role() + ",read-write"
}

const attributesSize = 8

func (a Attributes) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(a.Flags))
	return binary.BigEndian.AppendUint32(b, a.Timeline)
}

func parseAttributes(p []byte) Attributes {
	return Attributes{AttributeFlags(binary.BigEndian.Uint32(p)), binary.BigEndian.Uint32(p[4:])}
}

// WelcomeFlags of a WELCOME.
type WelcomeFlags uint16

const (
	Resumed     WelcomeFlags = 1 << 0 // the watchdog knew this conmgr, and nothing was ended
	KnowsLabels WelcomeFlags = 1 << 1 // the server takes conmgr.client for its sessions
)

// Succession is what an instance says of the database cluster whose place it has taken: after
// pg_upgrade, for example, the system identifier is another one on purpose. The zero value: none is
// declared.
type Succession struct {
	SystemIdentifier uint64 // of the predecessor
	Timeline         uint32 // its last one
}

const successionSize = 8 + 4

func (s Succession) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, s.SystemIdentifier)
	return binary.BigEndian.AppendUint32(b, s.Timeline)
}

// parseSuccession reads what stands at the end of a message, which older peers leave out.
func parseSuccession(p []byte) (s Succession) {
	if len(p) >= successionSize {
		s = Succession{binary.BigEndian.Uint64(p), binary.BigEndian.Uint32(p[8:])}
	}
	return s
}

// Welcome is the watchdog's answer to a HELLO.
type Welcome struct {
	Version          uint16
	Flags            WelcomeFlags
	SystemIdentifier uint64
	PostmasterStart  int64 // microseconds since 1970-01-01 00:00 UTC
	Attributes       Attributes
	PostmasterPort   uint16     // on which the server takes SQL connections; 0: not told
	Succeeds         Succession // zero: not told, or none
	// KnownSince names the watchdog's memory of this conmgr, which is another one if it had
	// forgotten it meanwhile; 0: not told.
	KnownSince uint64
	Lag        Lag // since version 2, of a standby
	// Grace is how much of what HELLO has asked for is granted, 0: none, as a server of 1.0 does.
	Grace time.Duration
}

const (
	welcomeSize     = 2 + 2 + 8 + 8 + attributesSize
	welcomePortSize = 2 + 2 // port, reserved
	knownSinceSize  = 8
)

// Append appends the frame to b.
func (w Welcome) Append(b []byte) []byte {
	start := len(b)
	b = begin(b, TypeWelcome)
	b = binary.BigEndian.AppendUint16(b, w.Version)
	b = binary.BigEndian.AppendUint16(b, uint16(w.Flags))
	b = binary.BigEndian.AppendUint64(b, w.SystemIdentifier)
	b = binary.BigEndian.AppendUint64(b, uint64(w.PostmasterStart))
	b = w.Attributes.append(b)
	b = binary.BigEndian.AppendUint16(b, w.PostmasterPort)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = w.Succeeds.append(b)
	b = binary.BigEndian.AppendUint64(b, w.KnownSince)
	if w.Version >= 2 && w.Attributes.Has(InRecovery) {
		b = w.Lag.append(b)
	}
	if w.Grace != 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(w.Grace/time.Millisecond))
	}
	return end(b, start)
}

// ParseWelcome decodes a WELCOME and checks that its version is one that we offered.
func ParseWelcome(p []byte) (w Welcome, err error) {
	if len(p) < welcomeSize {
		return w, malformed("malformed WELCOME of %d bytes", len(p))
	}
	w.Version = binary.BigEndian.Uint16(p)
	w.Flags = WelcomeFlags(binary.BigEndian.Uint16(p[2:]))
	w.SystemIdentifier = binary.BigEndian.Uint64(p[4:])
	w.PostmasterStart = int64(binary.BigEndian.Uint64(p[12:]))
	w.Attributes = parseAttributes(p[20:])
	if rest := p[welcomeSize:]; len(rest) >= welcomePortSize {
		w.PostmasterPort = binary.BigEndian.Uint16(rest)
		w.Succeeds = parseSuccession(rest[welcomePortSize:])
		if rest = rest[welcomePortSize:]; len(rest) >= successionSize+knownSinceSize {
			w.KnownSince = binary.BigEndian.Uint64(rest[successionSize:])
			w.Lag = parseLag(rest[successionSize+knownSinceSize:], w.Version, w.Attributes)
			rest = rest[successionSize+knownSinceSize:]
			if w.Version >= 2 && w.Attributes.Has(InRecovery) {
				rest = rest[min(lagSize, len(rest)):]
			}
			if len(rest) >= graceSize {
				w.Grace = time.Duration(binary.BigEndian.Uint32(rest)) * time.Millisecond
			}
		}
	}
	if w.Version < MinVersion || w.Version > MaxVersion {
		return w, malformed("watchdog chose version %d of the heartbeat protocol, which was not offered", w.Version)
	}
	return w, nil
}

// ConmgrBeat is conmgr's BEAT.
type ConmgrBeat struct {
	Sequence uint32
	Echo     uint32 // since version 2: the last sequence received on this connection, 0: none
}

// Append appends the frame to b.
func (c ConmgrBeat) Append(b []byte, version uint16) []byte {
	start := len(b)
	b = begin(b, TypeBeat)
	b = binary.BigEndian.AppendUint32(b, c.Sequence)
	if version >= 2 {
		b = binary.BigEndian.AppendUint32(b, c.Echo)
	}
	return end(b, start)
}

// WatchdogBeat is the watchdog's BEAT.
type WatchdogBeat struct {
	Sequence   uint32
	Attributes Attributes
	Succeeds   Succession // in version 1 sent only if one is declared
	Echo       uint32     // since version 2: the last sequence received on this connection, 0: none
	Lag        Lag        // since version 2, of a standby
	// Held is for how long the watchdog had the BEAT that it echoes when it sent this, 1 us at least:
	// what is left of the time since that BEAT was sent is the round trip. 0: not told.
	Held time.Duration
}

const heldSize = 4

// Append appends the frame to b.
func (w WatchdogBeat) Append(b []byte, version uint16) []byte {
	start := len(b)
	b = begin(b, TypeBeat)
	b = binary.BigEndian.AppendUint32(b, w.Sequence)
	b = w.Attributes.append(b)
	if version >= 2 || w.Succeeds != (Succession{}) {
		b = w.Succeeds.append(b)
	}
	if version >= 2 {
		b = binary.BigEndian.AppendUint32(b, w.Echo)
	}
	if version >= 2 && w.Attributes.Has(InRecovery) {
		b = w.Lag.append(b)
	}
	if version >= 2 && w.Held != 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(w.Held/time.Microsecond))
	}
	return end(b, start)
}

const (
	sequenceSize = 4
	echoSize     = 4
)

// ParseConmgrBeat decodes conmgr's BEAT.
func ParseConmgrBeat(p []byte, version uint16) (c ConmgrBeat, err error) {
	size := sequenceSize
	if version >= 2 {
		size += echoSize
	}
	if len(p) < size {
		return c, malformed("malformed BEAT of %d bytes", len(p))
	}
	c.Sequence = binary.BigEndian.Uint32(p)
	if version >= 2 {
		c.Echo = binary.BigEndian.Uint32(p[sequenceSize:])
	}
	return c, nil
}

// ParseWatchdogBeat decodes the watchdog's BEAT.
func ParseWatchdogBeat(p []byte, version uint16) (w WatchdogBeat, err error) {
	const first = sequenceSize + attributesSize
	size := first
	if version >= 2 {
		size += successionSize + echoSize
	}
	if len(p) < size {
		return w, malformed("malformed BEAT of %d bytes", len(p))
	}
	w = WatchdogBeat{Sequence: binary.BigEndian.Uint32(p), Attributes: parseAttributes(p[sequenceSize:]),
		Succeeds: parseSuccession(p[first:])}
	if version >= 2 {
		w.Echo = binary.BigEndian.Uint32(p[first+successionSize:])
		w.Lag = parseLag(p[size:], version, w.Attributes)
		rest := p[size:]
		if w.Attributes.Has(InRecovery) {
			rest = rest[min(lagSize, len(rest)):]
		}
		if len(rest) >= heldSize {
			w.Held = time.Duration(binary.BigEndian.Uint32(rest)) * time.Microsecond
		}
	}
	return w, nil
}

// Goodbye announces the end of a connection.
type Goodbye struct {
	Code GoodbyeCode
	Text string
}

// Append appends the frame to b.
func (g Goodbye) Append(b []byte) []byte { return appendCoded(b, TypeGoodbye, uint16(g.Code), g.Text) }

// ParseGoodbye decodes a GOODBYE.
func ParseGoodbye(p []byte) (Goodbye, error) {
	code, text, err := parseCoded(TypeGoodbye, p)
	return Goodbye{GoodbyeCode(code), text}, err
}

// ConmgrGoodbye is conmgr's, which tells since version 2 what it belongs to.
type ConmgrGoodbye struct {
	Goodbye
	Generation uint64
	Attempt    uint32 // of the connection that it is sent on
}

// Append appends the frame to b.
func (g ConmgrGoodbye) Append(b []byte, version uint16) []byte {
	start := len(b)
	b = g.Goodbye.Append(b)
	if version >= 2 {
		b = binary.BigEndian.AppendUint64(b, g.Generation)
		b = binary.BigEndian.AppendUint32(b, g.Attempt)
	}
	return end(b, start)
}

// ParseConmgrGoodbye decodes conmgr's GOODBYE.
func ParseConmgrGoodbye(p []byte, version uint16) (g ConmgrGoodbye, err error) {
	if g.Goodbye, err = ParseGoodbye(p); err != nil || version < 2 {
		return g, err
	}
	rest := p[codedSize+int(binary.BigEndian.Uint16(p[2:])):]
	if len(rest) < 8+attemptSize {
		return g, malformed("malformed GOODBYE of %d bytes", len(p))
	}
	g.Generation = binary.BigEndian.Uint64(rest)
	g.Attempt = binary.BigEndian.Uint32(rest[8:])
	return g, nil
}

// Refused is the watchdog's last message to a peer that it does not serve.
type Refused struct {
	Code RefusedCode
	Text string
}

// Append appends the frame to b.
func (r Refused) Append(b []byte) []byte { return appendCoded(b, TypeRefused, uint16(r.Code), r.Text) }

// ParseRefused decodes a REFUSED.
func ParseRefused(p []byte) (Refused, error) {
	code, text, err := parseCoded(TypeRefused, p)
	return Refused{RefusedCode(code), text}, err
}
