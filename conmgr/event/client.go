package event

// What happens to applications and their connections; emitted by the goroutines that serve them.
// What is followed with log_min_messages = INFO or DEBUG is as much as what it tells of, and costs
// next to nothing where nobody asks for it. Pure.

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

// Client is an application connection; relayed, or one that asks for its target.
type Client struct {
	Peer  fmt.Stringer
	Relay bool
}

func (c Client) what() string {
	if c.Relay {
		return "to a relay port "
	}
	return ""
}

// Accepted tells that a connection has come.
type Accepted struct {
	debug
	Client
}

// Text of it.
func (e Accepted) Text() string {
	return fmt.Sprintf("connection from application %saccepted: %s", e.what(), e.Peer)
}

// Ended tells that it has gone.
type Ended struct {
	debug
	Client
}

// Text of it.
func (e Ended) Text() string {
	return fmt.Sprintf("connection from application %sended: %s", e.what(), e.Peer)
}

// Bound tells that a client has asked for an attribute, by a statement or a relay port, and is bound
// to an instance, or to none.
type Bound struct {
	info
	Client
	Application string
	Want        cm.Attribute
	Except      []int  // numbers of instances
	Lag         string // that it has set; "": none
	Found       bool
	To          Instance // if Found
	Addr        netip.Addr
	Why         func() string // why not others
}

func named(peer fmt.Stringer, application string) string {
	if application == "" {
		return peer.String()
	}
	return fmt.Sprintf("%s (%s)", peer, application)
}

// Text of it.
func (e Bound) Text() string {
	who, how, got := named(e.Peer, e.Application), "asked for", "no instance"
	if e.Relay {
		how = "is relayed to"
	}
	if e.Found {
		got = fmt.Sprintf("instance %d (host %q, address %s, port %d)", e.To.Number, e.To.Host, e.Addr, e.To.Port)
	}
	if len(e.Except) > 0 {
		how += fmt.Sprintf(" (except %v)", e.Except)
	}
	if e.Lag != "" {
		how += fmt.Sprintf(" (lag %s)", e.Lag)
	}
	return fmt.Sprintf("%s %s %s: %s", who, how, e.Want, got)
}

// Explain it.
func (e Bound) Explain(verbose bool) (detail, hint string) {
	if e.Found && !verbose {
		return "", ""
	}
	return e.Why() + ".", ""
}

// Waits tells that it waits for an instance, as none has the attribute yet.
type Waits struct {
	info
	Client
	Application string
	Want        cm.Attribute
	Most        time.Duration
}

// Text of it.
func (e Waits) Text() string {
	return fmt.Sprintf("%s waits for %s, for %d ms at most", named(e.Peer, e.Application), e.Want,
		e.Most.Milliseconds())
}

// WaitersServed tells how many have waited, and have their instance now.
type WaitersServed struct {
	notable
	N       int
	Longest time.Duration
}

// Text of it.
func (e WaitersServed) Text() string {
	return fmt.Sprintf("%d applications that waited for an instance have one, the first after %d ms", e.N,
		e.Longest.Milliseconds())
}

// Kind of it.
func (WaitersServed) Kind() string { return "served" }

// NoPlace tells that one that waits, or would, is refused.
type NoPlace struct {
	notable
	Client
	What string
}

// Text of it.
func (e NoPlace) Text() string {
	return fmt.Sprintf("refused a connection from application that waits for an instance: %s: %s", e.Peer, e.What)
}

// Kind of it.
func (NoPlace) Kind() string { return "waiting" }

// NotResumed tells that it was bound before conmgr was away, and is told of a loss now.
type NotResumed struct {
	notable
	Client
	Number int // of the instance
}

// Text of it.
func (e NotResumed) Text() string {
	return fmt.Sprintf("told an application connection that was to be resumed of the loss of instance %d: %s", e.Number,
		e.Peer)
}

// Kind of it.
func (NotResumed) Kind() string { return "resume" }

// Rejected tells that it gets no instance, because of a shutdown.
type Rejected struct {
	notable
	Client
}

// Text of it.
func (e Rejected) Text() string {
	return fmt.Sprintf("rejected a connection from application due to going shutdown: %s", e.Peer)
}

// Kind of it.
func (Rejected) Kind() string { return "rejected" }

// Overfull tells that there is no room for it.
type Overfull struct {
	notable
	Client
	Max   int
	Limit string
}

// Text of it.
func (e Overfull) Text() string {
	return fmt.Sprintf("closed a connection from application: %s: there are %d connections already (%s)", e.Peer,
		e.Max, e.Limit)
}

// Kind of it.
func (Overfull) Kind() string { return "max_connections" }

// OverShare tells that its user has too many.
type OverShare struct {
	notable
	Client
	What string
}

// Text of it.
func (e OverShare) Text() string {
	return fmt.Sprintf("refused a connection from application: %s: %s (max_user_connections)", e.Peer, e.What)
}

// Kind of it.
func (OverShare) Kind() string { return "max_user_connections" }

// Foreign tells that it came to a relay port, and not from this host.
type Foreign struct {
	notable
	Client
}

// Text of it.
func (e Foreign) Text() string {
	return fmt.Sprintf("closed a connection to a relay port: %s: it is not from this host, nor of relay_allowed_networks",
		e.Peer)
}

// Kind of it.
func (Foreign) Kind() string { return "relay_allowed_networks" }

// AcceptFailed is for want of descriptors, for example.
type AcceptFailed struct {
	failure
	Why string
}

// Text of it.
func (e AcceptFailed) Text() string {
	return "could not accept a connection from application: " + e.Why
}

// Kind of it.
func (AcceptFailed) Kind() string { return "accept" }

// NoUnixSocket tells that the one that is there by default is not.
type NoUnixSocket struct {
	warning
	Err error
}

// Text of it.
func (e NoUnixSocket) Text() string { return e.Err.Error() }

// Explain it.
func (e NoUnixSocket) Explain(bool) (detail, hint string) {
	return "", "Applications reach conmgr by TCP only. Name another directory in unix_socket_directories, or '' for none."
}

// RelayFailed tells that an instance could not be reached; the next one is tried.
type RelayFailed struct {
	notable
	Why string
}

// Text of it.
func (e RelayFailed) Text() string { return "could not connect a relayed connection to " + e.Why }

// Kind of it.
func (RelayFailed) Kind() string { return "relay" }

// RelayDeclined tells that the client is told why.
type RelayDeclined struct {
	debug
	Client
	Why error
}

// Text of it.
func (e RelayDeclined) Text() string {
	return fmt.Sprintf("declined a relayed connection from %s: %s", e.Peer, e.Why)
}

// CancelGivenUp tells that whoever has asked to cancel has left.
type CancelGivenUp struct {
	debug
	Client
	Instance
}

// Text of it.
func (e CancelGivenUp) Text() string {
	return fmt.Sprintf("a cancel request from %s was given up: instance %d", e.Peer, e.Number)
}

// CancelFailed tells that it has not reached the instance.
type CancelFailed struct {
	notable
	Instance
	Why string
}

// Text of it.
func (e CancelFailed) Text() string {
	return fmt.Sprintf("could not deliver a cancel request to %s: %s", e.short(), e.Why)
}

// Kind of it.
func (CancelFailed) Kind() string { return "cancel" }
