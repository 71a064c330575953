package heartbeat

// How far a standby is behind, as it says of itself, and what is too far. Pure.

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Lag is how far a standby's replay is behind what its walreceiver has been told of. The zero
// value: not known, as of a standby without a walreceiver, and of a watchdog that does not tell.
type Lag struct {
	Known bool
	Bytes uint64        // of WAL
	Time  time.Duration // for so long it has known of some of that, whole milliseconds; -1: not known
}

const (
	lagSize      = 8 + 4
	unknownBytes = math.MaxUint64
	unknownTime  = math.MaxUint32
)

// LagOf is the lag of two gauges as they are on the wire.
func LagOf(bytes uint64, ms uint32) Lag {
	switch {
	case bytes == unknownBytes:
		return Lag{}
	case ms == unknownTime:
		return Lag{true, bytes, -1}
	}
	return Lag{true, bytes, time.Duration(ms) * time.Millisecond}
}

func (l Lag) append(b []byte) []byte {
	bytes, ms := uint64(unknownBytes), uint32(unknownTime)
	if l.Known {
		bytes = l.Bytes
	}
	if l.Known && l.Time >= 0 {
		ms = uint32(min(l.Time.Milliseconds(), unknownTime-1))
	}
	b = binary.BigEndian.AppendUint64(b, bytes)
	return binary.BigEndian.AppendUint32(b, ms)
}

// parseLag reads what stands at the end of a standby's message of version 2, if that has it.
func parseLag(p []byte, version uint16, a Attributes) Lag {
	if version < 2 || !a.Has(InRecovery) || len(p) < lagSize {
		return Lag{}
	}
	return LagOf(binary.BigEndian.Uint64(p), binary.BigEndian.Uint32(p[8:]))
}

// String tells it to people: "64 MB and 12 s behind".
func (l Lag) String() string {
	switch {
	case !l.Known:
		return "behind by what is not known"
	case l.Time < 0:
		return size(l.Bytes) + " behind, since when is not known"
	}
	return fmt.Sprintf("%s and %s behind", size(l.Bytes), age(l.Time))
}

// size is some bytes in a unit in which they are easy to read.
func size(n uint64) string {
	for i, unit := range [...]string{"bytes", "kB", "MB", "GB"} {
		if n>>(10*i) < 10240 {
			return fmt.Sprintf("%d %s", n>>(10*i), unit)
		}
	}
	return fmt.Sprintf("%d TB", n>>40)
}

func age(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%d s", int64(d.Seconds()))
}

// LagLimit is the most that a standby may be behind. The zero value: there is none.
type LagLimit struct {
	By   LagUnit
	Max  int64  // bytes, or milliseconds
	Text string // as it was written
}

// LagUnit is what a LagLimit counts.
type LagUnit uint8

// The units.
const (
	Unlimited LagUnit = iota
	ByBytes
	ByTime
)

// Exceeded tells whether a standby that is so far behind is too far behind. What is not known is.
func (m LagLimit) Exceeded(l Lag) bool {
	switch m.By {
	case ByBytes:
		return !l.Known || l.Bytes > uint64(m.Max)
	case ByTime:
		return !l.Known || l.Time < 0 || l.Time.Milliseconds() > m.Max
	}
	return false
}
