package doctor

// What is gathered. Nothing of it is judged yet.

import (
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Facts are of one directory of a conmgr, and of what its conmgr.conf names.
type Facts struct {
	Directory   string
	Version     string // of cm_ctl
	Diagnostics []Diagnostic
	Settings    *Settings // nil: conmgr.conf has errors
	Conmgr      Conmgr
	Host        Host
	Front       Front
	Servers     []Server // by their numbers
}

// Diagnostic is what conmgr --check says.
type Diagnostic struct {
	Warning    bool
	Text, Hint string
}

// Settings of conmgr.conf that matter here.
type Settings struct {
	Interval, Timeout time.Duration
	Needed            uint64 // descriptors: more than so many
	Places            int    // for applications, as descriptors allow; 0: none
	DestroySockets    bool
	KeyFile           string // "": none
}

// Conmgr is the process.
type Conmgr struct {
	Running bool
	Pid     int
	Version string
	Problem string // why it could not be asked, or identified
	Bound   int    // connections that are bound, or relayed
	States  []State
	Differ  []string // parameters of which it uses another value than conmgr.conf has
}

// State is what conmgr says of an instance.
type State struct {
	Number              int
	State, Role, Detail string
	NotUsed             string
	Address             netip.Addr // that heartbeats prove alive
}

// stateOf is that of an instance, nil if conmgr has not told.
func (c *Conmgr) stateOf(number int) *State {
	for i := range c.States {
		if c.States[i].Number == number {
			return &c.States[i]
		}
	}
	return nil
}

// Host is what this host gives to conmgr: to the process that runs, else to this one.
type Host struct {
	Own         bool   // of this process
	Descriptors uint64 // the limit; 0: not known
	NetAdmin    bool   // CAP_NET_ADMIN is effective
}

// Front is the libpq front that is installed.
type Front struct {
	Path    string   // "": there is none
	Libpq   string   // the libpq that it stands before, "": not found
	Missing []string // functions that libpq has, and it has not
	Lacks   []string // functions that a front of this version has
	Problem string
}

// Server is an instance of conmgr.conf.
type Server struct {
	Number       int
	Name         string
	Port         int
	WatchdogPort int
	LookupError  string
	LookupTime   time.Duration
	Paths        []Path   // an address each
	Session      *Session // by SQL; nil: there were no credentials
	Elsewhere    []Elsewhere
}

// Elsewhere are connections of this host to the instance's SQL port that come from one address.
type Elsewhere struct {
	From netip.Addr
	N    int
}

// Path is the way to one address of an instance.
type Path struct {
	Address     netip.Addr
	SQL         Reach
	Watchdog    Reach
	UserTimeout time.Duration // as the kernel has taken it; negative: it has not
	Told        *Told         // nil: nothing
	Refused     *heartbeat.Refused
}

// Outcome is what became of an attempt to connect.
type Outcome uint8

// The outcomes.
const (
	Connected   Outcome = iota
	Refused             // a reset: nobody listens, or a firewall says so
	Rejected            // by an ICMP message: a firewall, or a router
	Silent              // no answer
	Unreachable         // there is no way from here
)

// Speaks is what listens there.
type Speaks uint8

// Who may answer.
const (
	Nothing  Speaks = iota // that can be understood
	Postgres               // a PostgreSQL server, or a pooler
	Watchdog
)

// Reach is one attempt.
type Reach struct {
	Outcome Outcome
	Cause   string     // in the kernel's words
	By      netip.Addr // who has rejected it
	Local   netip.Addr // from where
	Speaks  Speaks
}

// Told is what a watchdog tells who asks.
type Told struct {
	heartbeat.Tell
	Offset time.Duration // of its clock to this host's
}

// Session is what one SQL connection has shown.
type Session struct {
	Problem   string // why there is none
	Client    netip.Addr
	Offset    time.Duration // of its clock to this host's
	Server    string        // its version
	Extension string        // the version of the extension in that database, "": there is none
	Preloaded bool
	Rows      []Row // of watchdog_doctor()
}

// Row is one of watchdog_doctor().
type Row struct{ Check, Level, Text, Advice string }

// Set goes by the names of columns: later versions may add some.
func (r *Row) Set(column, value string) {
	switch column {
	case "check":
		r.Check = value
	case "status":
		r.Level = value
	case "detail":
		r.Text = value
	case "advice":
		r.Advice = value
	}
}
