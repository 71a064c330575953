package driver

// Whether what calls itself a Connection Manager is believed, and whether its answer is
// (docs/drivers.md has the rule; the libpq front has the same). Whoever listens on conmgr's port
// decides by its answers where the application connects to, and under which name a certificate is
// checked. Runs in the goroutine that connects; blocks on the kernel's answer, and on the look-up
// of a user's name for a peer that is neither root's nor this process's own user's.

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/sockowner"
)

// TrustError says that the peer calls itself a Connection Manager and is not believed. Nothing was
// asked of it, and nothing secret sent.
type TrustError struct{ Reason, Hint string }

func (e *TrustError) Error() string {
	text := "could not get server address from Connection Manager: " + e.Reason
	if e.Hint != "" {
		text += "; hint: " + e.Hint
	}
	return text
}

// owner is what the kernel says of the peer.
type owner struct {
	uid   uint32
	err   error
	local bool // a Unix-domain socket
}

func ownerOf(conn net.Conn) owner {
	_, local := conn.(*net.UnixConn)
	uid, err := sockowner.Peer(conn)
	return owner{uid: uid, err: err, local: local}
}

// environ is a variable that lists things. A program that runs with somebody else's privileges does
// not heed it: its environment may be anybody's.
func environ(name string) (list []string) {
	if privileged() {
		return nil
	}
	for _, element := range strings.Split(os.Getenv(name), ",") {
		if element = strings.Trim(element, " \t"); element != "" {
			list = append(list, element)
		}
	}
	return list
}

func differs() bool { return os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() }

// believed returns a *TrustError if the peer is not.
func (a *Asker) believed(o owner) error {
	users := environ("PGCMUSER")
	named := o.local && a.RequirePeer != ""
	if !named && contains(users, "*") {
		return nil
	}
	switch {
	case o.err == nil && named:
		return requiredPeer(a.RequirePeer, o.uid)
	case o.err == nil && trusted(o.uid, users):
		return nil
	case o.err == nil:
		return foreign(o)
	case errors.Is(o.err, sockowner.ErrGone):
		return &TrustError{"whatever has answered there has closed the connection before its user could be told", ""}
	}
	return a.unknown(o)
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

func trusted(uid uint32, users []string) bool {
	switch uid {
	case sockowner.Nobody, math.MaxUint32:
		return false
	case 0, uint32(os.Geteuid()):
		return true
	}
	for _, name := range append(users, "conmgr") {
		if sockowner.IsUser(name, uid) {
			return true
		}
	}
	return false
}

// requiredPeer is libpq's own rule for Unix-domain sockets.
func requiredPeer(required string, uid uint32) error {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return &TrustError{fmt.Sprintf("could not look up local user ID %d: user does not exist", uid), ""}
	}
	if u.Username != required {
		return &TrustError{fmt.Sprintf("requirepeer specifies %q, but actual peer user name is %q", required,
			u.Username), ""}
	}
	return nil
}

func foreign(o owner) error {
	otherwise := "connect by its Unix-domain socket (host=DIRECTORY) with requirepeer"
	if o.local {
		otherwise = "use requirepeer"
	}
	if o.uid == sockowner.Nobody {
		return &TrustError{
			fmt.Sprintf("the process that listens there belongs to user ID %d, which may be anybody's, and is not trusted to be the Connection Manager", o.uid),
			fmt.Sprintf("If it is the right one, %s, or set the environment variable PGCMUSER to *.", otherwise)}
	}
	who := fmt.Sprintf("user ID %d", o.uid)
	if u, err := user.LookupId(strconv.FormatUint(uint64(o.uid), 10)); err == nil {
		who = fmt.Sprintf("user %q (user ID %d)", u.Username, o.uid)
	}
	return &TrustError{
		fmt.Sprintf("the process that listens there belongs to %s, who is not trusted to be the Connection Manager",
			who),
		fmt.Sprintf("If it is the right one, name the user in the environment variable PGCMUSER, or %s.", otherwise)}
}

// unknown lets the peer through, unless the application has asked for a server that is identified:
// it is the answer that says which one. With PGCMHOSTS the application itself has the list of
// names.
func (a *Asker) unknown(o owner) error {
	full := a.SSLMode == "verify-full"
	if !full && a.SSLMode != "verify-ca" || full && len(environ("PGCMHOSTS")) > 0 {
		return nil
	}
	pins := ""
	if full {
		pins = "or name the acceptable servers in the environment variable PGCMHOSTS, "
	}
	return &TrustError{
		fmt.Sprintf("sslmode %q needs a trusted Connection Manager, and whose process listens there is not known: %v",
			a.SSLMode, o.err),
		"Connect by its Unix-domain socket (host=DIRECTORY), " + pins +
			"or set the environment variable PGCMUSER to *."}
}

// sound is an error for an answer that is more than a name, an address and a port. What real
// drivers take for a host need not be a name, and it decides whether TLS is used at all.
func (t *Target) sound() error {
	bad := func(format string, args ...any) error { return fmt.Errorf("the answer's "+format, args...) }
	for _, s := range []string{t.Host, t.HostAddr, t.Attributes, t.Client, t.resume} {
		if strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			return errors.New("the answer has a control character")
		}
	}
	switch {
	case t.Host == "":
		return bad("host is empty")
	case strings.HasPrefix(t.Host, "/"), strings.HasPrefix(t.Host, "@"):
		return bad("host %q is the directory of a socket", t.Host)
	case strings.Contains(t.Host, ","):
		return bad("host %q is a list", t.Host)
	}
	if a, err := netip.ParseAddr(t.HostAddr); err != nil || strings.ContainsAny(a.Zone(), ", '\\/@#") {
		return bad("hostaddr %q is not an IP address", t.HostAddr)
	}
	if t.Client != "" && (len(t.Client) != cm.LabelLength || strings.Trim(t.Client, "0123456789abcdef") != "") {
		return bad("client %q is not a label", t.Client)
	}
	if len(t.resume) > cm.MaxResume || strings.ContainsAny(t.resume, `'"\`) ||
		strings.ContainsFunc(t.resume, func(r rune) bool { return r > 0x7e }) {
		return bad("resume %q is not a token", t.resume) // it becomes a part of a statement
	}
	pins := environ("PGCMHOSTS")
	for _, name := range pins {
		if len(name) == len(t.Host) && strings.EqualFold(name, t.Host) { // of ASCII, as the names of DNS
			return nil
		}
	}
	if len(pins) > 0 {
		return bad("host %q is not one of PGCMHOSTS", t.Host)
	}
	return nil
}
