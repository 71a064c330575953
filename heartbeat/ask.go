package heartbeat

// ASK and TELL: what a watchdog says of its server to one who looks for what is wrong, and is not to
// be monitored. Nothing follows from it on either side.

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// AskOf is the first message of one who asks: what a HELLO would be, under another type, so that a
// watchdog that does not know it refuses it.
func AskOf(h Hello, b []byte) []byte {
	start := len(b)
	b = h.Append(b)
	b[start+2] = byte(TypeAsk)
	return b
}

// ParseAsk decodes and checks an ASK, as ParseHello does.
func ParseAsk(p []byte) (Hello, error) {
	if len(p) < helloSize {
		return Hello{}, malformed("malformed ASK of %d bytes", len(p))
	}
	return ParseHello(p)
}

// TellFlags of a TELL.
type TellFlags uint16

// The flags.
const (
	TellProved           TellFlags = 1 << 0 // whoever asks has proved his key
	TellTerminateOnClose TellFlags = 1 << 1 // a conmgr that ends takes the sessions of its host along
)

// Authentication is what TELL says of watchdog.authentication, by the values of that setting.
type Authentication uint16

func (a Authentication) String() string {
	switch a {
	case 0:
		return "off"
	case 1:
		return "prefer"
	case 2:
		return "require"
	}
	return "unknown"
}

// Tell is the answer to ASK.
type Tell struct {
	Version          uint16 // that both would speak
	Flags            TellFlags
	SystemIdentifier uint64
	PostmasterStart  int64
	Attributes       Attributes
	PostmasterPort   uint16 // 0: not known
	Authentication   Authentication
	Wall             int64 // the server's clock, microseconds since 1970-01-01 00:00 UTC
	MinInterval      time.Duration
	MaxTimeout       time.Duration // 0: no limit
	MaxGrace         time.Duration
	Conmgrs          uint32         // that are known, of all hosts
	Slots            uint32         // for how many there is room
	Neighbours       uint32         // connected ones of the address of whoever asks
	Peer             netip.AddrPort // that address, as the server sees it
}

const tellSize = 2 + 2 + 8 + 8 + attributesSize + 2 + 2 + 8 + 3*4 + 3*4 + 16 + 2

// Append appends the frame to b.
func (t Tell) Append(b []byte) []byte {
	start := len(b)
	b = begin(b, TypeTell)
	b = binary.BigEndian.AppendUint16(b, t.Version)
	b = binary.BigEndian.AppendUint16(b, uint16(t.Flags))
	b = binary.BigEndian.AppendUint64(b, t.SystemIdentifier)
	b = binary.BigEndian.AppendUint64(b, uint64(t.PostmasterStart))
	b = t.Attributes.append(b)
	b = binary.BigEndian.AppendUint16(b, t.PostmasterPort)
	b = binary.BigEndian.AppendUint16(b, uint16(t.Authentication))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Wall))
	for _, d := range []time.Duration{t.MinInterval, t.MaxTimeout, t.MaxGrace} {
		b = binary.BigEndian.AppendUint32(b, uint32(d.Milliseconds()))
	}
	for _, n := range []uint32{t.Conmgrs, t.Slots, t.Neighbours} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	a := t.Peer.Addr().As16()
	b = append(b, a[:]...)
	b = binary.BigEndian.AppendUint16(b, t.Peer.Port())
	return end(b, start)
}

// ParseTell decodes one.
func ParseTell(p []byte) (t Tell, err error) {
	if len(p) < tellSize {
		return t, malformed("malformed TELL of %d bytes", len(p))
	}
	u16 := func() uint16 { v := binary.BigEndian.Uint16(p); p = p[2:]; return v }
	u32 := func() uint32 { v := binary.BigEndian.Uint32(p); p = p[4:]; return v }
	u64 := func() uint64 { v := binary.BigEndian.Uint64(p); p = p[8:]; return v }
	t.Version, t.Flags = u16(), TellFlags(u16())
	t.SystemIdentifier, t.PostmasterStart = u64(), int64(u64())
	t.Attributes = parseAttributes(p)
	p = p[attributesSize:]
	t.PostmasterPort, t.Authentication = u16(), Authentication(u16())
	t.Wall = int64(u64())
	for _, d := range []*time.Duration{&t.MinInterval, &t.MaxTimeout, &t.MaxGrace} {
		*d = time.Duration(u32()) * time.Millisecond
	}
	t.Conmgrs, t.Slots, t.Neighbours = u32(), u32(), u32()
	a := netip.AddrFrom16([16]byte(p[:16])).Unmap()
	p = p[16:]
	t.Peer = netip.AddrPortFrom(a, u16())
	return t, nil
}
