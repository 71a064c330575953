package cm

// The attributes by which applications ask for an instance.

import "strings"

// Attribute is a value of target_session_attrs, and of SHOW TARGET.
type Attribute string

// The attributes of docs/protocol.md 2.2. PreferRead is the old name of PreferStandby.
const (
	Any           Attribute = "any"
	ReadWrite     Attribute = "read-write"
	ReadOnly      Attribute = "read-only"
	Primary       Attribute = "primary"
	Standby       Attribute = "standby"
	PreferStandby Attribute = "prefer-standby"
	PreferRead    Attribute = "prefer-read"
)

// Attributes are all of them, in the order in which messages list them.
var Attributes = []Attribute{Any, ReadWrite, ReadOnly, Primary, Standby, PreferStandby, PreferRead}

// JoinAttributes lists all of them, for messages.
func JoinAttributes(separator string) string {
	names := make([]string, len(Attributes))
	for i, a := range Attributes {
		names[i] = string(a)
	}
	return strings.Join(names, separator)
}
