package pgxcm

// A session's label. pgconn has written the StartupMessage before it is known which instance it is
// for, so the label is put into it. Pure.

import (
	"bytes"
	"encoding/binary"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// labelled is a StartupMessage for a target: its options, whether from the connection string,
// RuntimeParams or PGOPTIONS, say by a label whose the session is, where the target has one.
func labelled(startup []byte, t driver.Target) []byte {
	const header = 8 // length, code
	if t.Client == "" || len(startup) < header {
		return startup
	}
	var parameters []string
	own := ""
	for rest := startup[header:]; len(rest) > 0 && rest[0] != 0; {
		var words [2]string
		for i := range words {
			word, after, ended := bytes.Cut(rest, []byte{0})
			if !ended {
				return startup
			}
			words[i], rest = string(word), after
		}
		if words[0] == "options" {
			own = words[1]
			continue
		}
		parameters = append(parameters, words[0], words[1])
	}
	parameters = append(parameters, "options", t.Options(own))
	return pgwire.StartupPacket(binary.BigEndian.Uint32(startup[4:]), parameters...)
}
