package heartbeat

// What either end knows of one connection once both have said who they are: how its frames are
// written, and which numbers have been used. Pure.

// Channel is one end of a connection.
type Channel struct {
	Version uint16
	Attempt uint32 // of its HELLO, 0: not told
	sent    uint32 // sequence of the last BEAT that was sent
	heard   uint32 // and of the last one that has come
}

// ConmgrBeat appends conmgr's next BEAT to b.
func (c *Channel) ConmgrBeat(b []byte) []byte {
	c.sent++
	return ConmgrBeat{Sequence: c.sent, Echo: c.heard}.Append(b, c.Version)
}

// WatchdogBeat appends the watchdog's next BEAT to b.
func (c *Channel) WatchdogBeat(b []byte, a Attributes, s Succession) []byte {
	c.sent++
	return WatchdogBeat{Sequence: c.sent, Attributes: a, Succeeds: s, Echo: c.heard}.Append(b, c.Version)
}

// ConmgrGoodbye appends conmgr's GOODBYE to b.
func (c *Channel) ConmgrGoodbye(b []byte, g Goodbye, generation uint64) []byte {
	return ConmgrGoodbye{g, generation, c.Attempt}.Append(b, c.Version)
}

// FromConmgr takes in conmgr's BEAT.
func (c *Channel) FromConmgr(p []byte) error {
	b, err := ParseConmgrBeat(p, c.Version)
	if err == nil {
		c.heard = b.Sequence
	}
	return err
}

// FromWatchdog takes in the watchdog's BEAT.
func (c *Channel) FromWatchdog(p []byte) (WatchdogBeat, error) {
	b, err := ParseWatchdogBeat(p, c.Version)
	if err == nil {
		c.heard = b.Sequence
	}
	return b, err
}
