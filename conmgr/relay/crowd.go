package relay

import "golang.org/x/sys/unix"

// How many ends come in a number of waits decides how a loop is scheduled. A client that is alone
// makes one come at a time.
const (
	crowdWaits = 64                 // looked at together
	crowdMany  = 2 * crowdWaits     // and more: a crowd
	crowdFew   = crowdWaits * 5 / 4 // and less: no longer
)

// crowd tells whether many connections of a loop are busy at the same time.
type crowd struct {
	waits, ends int
	is          bool
}

// came notes what a wait has returned, and changes the thread's policy when the crowd comes or
// goes. It must be called by the loop's own thread.
func (c *crowd) came(ends int) {
	if ends == 0 {
		return // nobody spoke
	}
	c.waits++
	c.ends += ends
	if c.waits < crowdWaits {
		return
	}
	if !c.is && c.ends >= crowdMany || c.is && c.ends < crowdFew {
		c.is = !c.is
		yieldToSenders(c.is)
	}
	c.waits, c.ends = 0, 0
}

// yieldToSenders asks the kernel not to take the processor, at each of its messages, from a client
// or an instance on this machine: in a crowd it will soon wait, and others will have sent something
// by then. Alone, a client would wait at each message until a busy program's turn ends. A hint
// only: nothing is lost if it fails. The priority stays as the administrator has set it.
func yieldToSenders(yield bool) {
	from, to := uint32(unix.SCHED_BATCH), uint32(unix.SCHED_NORMAL)
	if yield {
		from, to = to, from
	}
	if attr, err := unix.SchedGetAttr(0, 0); err == nil && attr.Policy == from {
		attr.Policy = to
		_ = unix.SchedSetAttr(0, attr, 0)
	}
}
