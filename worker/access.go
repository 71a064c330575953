package worker

// Who may be a conmgr of this server: the key file is read, at the start before anybody is listened
// to, and at a reload on a goroutine of its own, as a file system may hang. The reactor's goroutine
// does the rest, and blocks at the start only.

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/heartbeat/watchdog"
	"github.com/pgwatchdog/watchdog/internal/keyfile"
)

// Access is what the server is set to.
type Access struct {
	Serial           uint32 // another one: it was set, or read, again
	Authentication   watchdog.Authentication
	MinInterval      time.Duration
	KeyFile          string
	AllowedAddresses string
	ListenAddresses  string // as in Config
	Port             int    // 0: as in Config, both
}

// access is what the reactor knows of it.
type access struct {
	serial  uint32
	loading bool
	loaded  chan loadedAccess // one at most
	keys    *proof.Keys       // that are in force
	text    [32]byte          // of their file: its hash
	missing bool              // there should be some, and there never were
	retryAt heartbeat.Mono    // when the file is read again; Never: when it is set, or read, again
	told    string            // why there are none, as the log has it
}

// keyRetry is how often a file is read that has never been of use.
const keyRetry = time.Second

// nonce is for one challenge.
func nonce() (n proof.Nonce) {
	_, _ = rand.Read(n[:]) // never fails: it would end the process
	return n
}

// loadedAccess is what was read.
type loadedAccess struct {
	Access
	keys *proof.Keys
	text [32]byte
	err  error
}

func loadAccess(a Access) loadedAccess {
	l := loadedAccess{Access: a}
	if a.Authentication == watchdog.Off {
		return l
	}
	if a.KeyFile == "" {
		l.err = errors.New("watchdog.key_file is not set")
		return l
	}
	text, err := keyfile.Read(a.KeyFile, "the database user", proof.MaxFile)
	if err == nil {
		l.keys, err = proof.ParseFile(a.KeyFile, text)
	}
	l.text, l.err = sha256.Sum256([]byte(text)), err
	return l
}

// firstAccess is that of the start.
func (r *Reactor) firstAccess(now watchdog.Now) *watchdog.Access {
	r.access.retryAt = watchdog.Never
	return r.taken(now, loadAccess(r.host.Access()))
}

// taken takes in what was read. It returns what holds.
func (r *Reactor) taken(now watchdog.Now, l loadedAccess) *watchdog.Access {
	a := &r.access
	a.retryAt = watchdog.Never
	switch {
	case l.err == nil:
		a.missing, a.told = false, ""
	case a.keys == nil:
		return r.without(now, l)
	default:
		r.host.Log(keysUnusable(l.err, fmt.Sprintf("The keys of before stay in force: %d.", a.keys.Len())))
		l.keys, l.text = a.keys, a.text
		defer r.host.Keys(l.keys.Len(), true)
	}
	return r.inForce(l)
}

// without: no key is believed, as their file is of no use. A worker before this one may have
// believed some, so it is read again and again.
func (r *Reactor) without(now watchdog.Now, l loadedAccess) *watchdog.Access {
	a := &r.access
	a.retryAt = now.Mono.Add(keyRetry)
	if a.missing && a.serial == l.Serial && a.told == l.err.Error() {
		return r.settings.Access
	}
	a.missing, a.told = true, l.err.Error()
	detail := "No conmgr process with a key is accepted"
	if l.Authentication == watchdog.Require {
		detail = "No conmgr process is accepted, as watchdog.authentication is require"
	}
	r.host.Log(keysUnusable(l.err, detail+", and none that had proved its key is judged. It is tried again every second."))
	return r.inForce(l)
}

func keysUnusable(err error, detail string) watchdog.Line {
	return watchdog.Line{Level: watchdog.Warning, Message: "could not load the keys of conmgr processes: " + err.Error(),
		Detail: detail}
}

// inForce takes over what was read.
func (r *Reactor) inForce(l loadedAccess) *watchdog.Access {
	r.access.serial = l.Serial
	if n := l.keys.Len(); n > 0 && l.text != r.access.text {
		r.host.Log(watchdog.Line{Level: watchdog.Log,
			Message: fmt.Sprintf("keys of conmgr processes are in force: %d from \"%s\"", n, l.KeyFile)})
	}
	r.access.keys, r.access.text = l.keys, l.text
	r.host.Keys(l.keys.Len(), r.access.missing)
	a := &watchdog.Access{Authentication: l.Authentication, Keys: l.keys, MinInterval: l.MinInterval, NoKeys: r.access.missing}
	if strings.Trim(l.AllowedAddresses, " \t") == "" { // as the server checks it
		return a
	}
	var err error
	if a.Allowed, err = proof.ParseNetworks(l.AllowedAddresses); err != nil { // the server checks it
		a.Allowed = []netip.Prefix{}
		r.host.Log(watchdog.Line{Level: watchdog.Warning, Message: "invalid watchdog.allowed_addresses: " + err.Error(),
			Detail: "No conmgr process is accepted."})
	}
	return a
}

// reloadAccess begins to read what was set anew, or could not be read, and takes in what was read.
// It returns what holds.
func (r *Reactor) reloadAccess(now watchdog.Now) *watchdog.Access {
	a := &r.access
	select {
	case l := <-a.loaded:
		a.loading = false
		return r.taken(now, l)
	default:
	}
	if !a.loading && (r.host.AccessSerial() != a.serial || a.retryAt <= now.Mono) {
		a.loading, a.retryAt = true, watchdog.Never
		set, wake := r.host.Access(), r.host.WakeFD()
		r.spawn(func() {
			a.loaded <- loadAccess(set)
			one := [8]byte{1}
			_, _ = unix.Write(wake, one[:])
		})
	}
	return r.settings.Access
}
