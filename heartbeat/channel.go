package heartbeat

// What either end knows of one connection once both have said who they are: how its frames are
// written, and which numbers have been used. Pure.

import "time"

// Channel is one end of a connection.
type Channel struct {
	Version uint16
	half    rough  // of heartbeat_timeout, for the link
	Attempt uint32 // of its HELLO, 0: not told
	Link    *Link  // nil: without a key; see Prove
	sent    uint32 // sequence of the last BEAT that was sent
	heard   uint32 // and of the last one that has come
	echo    uint32 // the last one of ours that the other end had received when it sent that; 0: none
	// hold is, at the watchdog's end, when heard has come, and at conmgr's for how long echo was held:
	// in microseconds, which wrap. There are thousands of channels.
	hold uint32
}

// Sent is the sequence of the last BEAT that was sent.
func (c *Channel) Sent() uint32 { return c.sent }

// Heard tells whether a BEAT of the other end has come.
func (c *Channel) Heard() bool { return c.heard != 0 }

// Echo is the last one of them that the other end is known to have received, 0: none.
func (c *Channel) Echo() uint32 { return c.echo }

// Held is for how long the watchdog had the BEAT that it has echoed last, 0: not told.
func (c *Channel) Held() time.Duration { return time.Duration(c.hold) * time.Microsecond }

func microseconds(t Mono) uint32 { return uint32(t / Mono(time.Microsecond)) } // wraps after 71 minutes

// ConmgrBeat appends conmgr's next BEAT to b.
func (c *Channel) ConmgrBeat(b []byte, now Mono) []byte {
	c.sent++
	c.beaten(now)
	return c.seal(ConmgrBeat{Sequence: c.sent, Echo: c.heard}.Append(b, c.Version), len(b))
}

// WatchdogBeat appends the watchdog's next BEAT to b.
func (c *Channel) WatchdogBeat(b []byte, now Mono, a Attributes, s Succession, l Lag) []byte {
	c.sent++
	c.beaten(now)
	w := WatchdogBeat{Sequence: c.sent, Attributes: a, Succeeds: s, Echo: c.heard, Lag: l}
	if c.heard != 0 {
		w.Held = time.Duration(max(1, microseconds(now)-c.hold)) * time.Microsecond
	}
	return c.seal(w.Append(b, c.Version), len(b))
}

// ConmgrGoodbye appends conmgr's GOODBYE to b.
func (c *Channel) ConmgrGoodbye(b []byte, g Goodbye, generation uint64) []byte {
	return c.seal(ConmgrGoodbye{g, generation, c.Attempt}.Append(b, c.Version), len(b))
}

// WatchdogGoodbye appends the watchdog's GOODBYE to b.
func (c *Channel) WatchdogGoodbye(b []byte, g Goodbye) []byte { return c.seal(g.Append(b), len(b)) }

// Refused appends a REFUSED to b.
func (c *Channel) Refused(b []byte, r Refused) []byte { return c.seal(r.Append(b), len(b)) }

// seal proves the frame that begins at start.
func (c *Channel) seal(b []byte, start int) []byte {
	if c.Link == nil {
		return b
	}
	return c.Link.Seal(b, start)
}

// Open checks the proof of a frame that has come, and takes it off. false: nothing may follow from
// it, and the connection is of no use any more.
func (c *Channel) Open(f Frame) (Frame, bool) {
	if c.Link == nil {
		return f, true
	}
	payload, ok := c.Link.Open(f.Whole)
	f.Payload = payload
	return f, ok
}

// FromConmgr takes in conmgr's BEAT. fresh: it is a sign of life.
func (c *Channel) FromConmgr(p []byte, now Mono) (fresh bool, err error) {
	b, err := ParseConmgrBeat(p, c.Version)
	if err == nil {
		c.heard, c.echo, c.hold = b.Sequence, b.Echo, microseconds(now)
	}
	return c.fresh(b.Echo, now), err
}

// FromWatchdog takes in the watchdog's BEAT. fresh: it is a sign of life, and what it says holds.
func (c *Channel) FromWatchdog(p []byte, now Mono) (b WatchdogBeat, fresh bool, err error) {
	b, err = ParseWatchdogBeat(p, c.Version)
	if err == nil {
		c.heard, c.echo, c.hold = b.Sequence, b.Echo, uint32(b.Held/time.Microsecond)
	}
	return b, c.fresh(b.Echo, now), err
}
