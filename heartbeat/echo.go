package heartbeat

// When the BEATs were sent that the other end echoes. Pure.

import (
	"math/bits"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// echoes tells which BEATs were sent more than two timeouts ago, half of one more or less, and takes
// 16 bytes: a server has thousands. Time is cut into halves of the timeout, which the channel has, and
// known is how many BEATs were sent in each of the last ones.
type echoes struct {
	first  uint32   // the first BEAT of the latest half in which one was sent; 0: there was none
	before [4]rough // how many were sent in each of the halves before that one, the latest first
	packed uint32   // the number of that half << 1 | the link's direction, which has no room elsewhere
}

// staleAfter so many timeouts an answer tells of life no more.
const staleAfter = 2

func newEchoes(send proof.Direction) echoes { return echoes{packed: uint32(send - proof.FromConmgr)} }

// send is the link's direction.
func (e *echoes) send() proof.Direction { return proof.FromConmgr + proof.Direction(e.packed&1) }

// halfOf a timeout, in milliseconds.
func halfOf(timeout time.Duration) rough {
	return roughly(uint64(max(1, (timeout.Milliseconds()+1)/2)))
}

// halves are how many a number counts, before it wraps: with a timeout of 100 ms in three years.
const halves = 1 << 31

// number is that of the half in which a time is.
func number(now Mono, half rough) uint32 {
	return uint32(uint64(now/Mono(time.Millisecond)) / half.value() % halves)
}

// past is how many halves have begun since the latest one.
func (e *echoes) past(number uint32) uint32 { return (number - e.packed>>1) % halves }

// beaten records a BEAT.
func (e *echoes) beaten(sequence uint32, now Mono, half rough) {
	n := number(now, half)
	sequence = max(sequence, 1) // one that has wrapped counts with the one after it
	if e.first != 0 {
		past := e.past(n)
		if past == 0 {
			return
		}
		in := roughly(uint64(sequence - e.first))
		for range min(past, uint32(len(e.before))) {
			copy(e.before[1:], e.before[:])
			e.before[0], in = in, 0
		}
		if past > uint32(len(e.before)) { // all of them were too long ago
			e.before = [len(e.before)]rough{}
		}
	}
	e.first, e.packed = sequence, n<<1|e.packed&1
}

// stale tells whether what is echoed was sent more than two timeouts ago. Who echoes nothing has
// had as long as the first BEAT.
func (e *echoes) stale(echo uint32, now Mono, half rough) bool {
	if e.first == 0 {
		return false
	}
	past := e.past(number(now, half))
	if past > 2*staleAfter {
		return true
	}
	first := e.first // of the half that began two timeouts before this one
	for _, n := range e.before[:2*staleAfter-past] {
		first -= uint32(n.value())
	}
	return int32(max(echo, 1)-first) < 0
}

// rough is a number in two bytes, rounded up by a thousandth at most: 11 bits, and by how many they
// are shifted.
type rough uint16

const roughBits = 11

func roughly(n uint64) rough {
	shift := max(0, bits.Len64(n)-roughBits)
	m := (n + 1<<shift - 1) >> shift
	if m == 1<<roughBits { // rounded up to one bit more
		m, shift = m>>1, shift+1
	}
	return rough(uint64(shift)<<roughBits | m)
}

func (r rough) value() uint64 { return uint64(r&(1<<roughBits-1)) << (r >> roughBits) }
