package pgxcm

// pgconn's hooks. pgconn goes through Host and Fallbacks by itself, and verifies
// target_session_attrs; a router gives it one entry for each host of the connection string and each
// way that sslmode allows. What pgconn dials for an entry is a conn, which finds its server by
// itself. Its methods run in pgx's goroutines, many at a time; they block on the network until the
// context, or connect_timeout, ends.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgwatchdog/watchdog/driver"
)

type router struct {
	cm       *driver.Config
	dialer   *driver.Dialer
	entries  []entry
	variants int  // number of tlsVariants
	direct   bool // sslnegotiation=direct

	mu        sync.Mutex
	conns     map[string]map[*driver.Conn]struct{} // by address: the connections that a cancel request may belong to
	passwords map[string]bool                      // found by us, and so to be replaced for another instance
}

// unixMark stands before the path of a Unix-domain socket: pgconn would dial a bare one without a
// look-up, and take it for a server's.
const unixMark = "socket "

// entry is what pgconn sees as a host.
type entry struct {
	name    string // pgconn's Host, unique
	host    driver.Host
	turn    int // of the host in the connection string, which may have it twice
	variant int // of tlsVariants
	waits   bool
}

// waitName is what pgconn takes for the name of a host, where those that wait are asked again.
const waitName = "the hosts that wait"

// hosts to be tried, one after the other.
func (e *entry) hosts(w *driver.Waiting) []driver.Host {
	if e.waits {
		return w.Hosts()
	}
	return []driver.Host{e.host}
}

// install makes a configuration, as parsed for the first host alone, the router's.
func (r *router) install(config *pgconn.Config) {
	r.direct = config.SSLNegotiation == "direct"
	seen := map[string]bool{}
	for turn, h := range r.cm.Hosts {
		for v := range r.variants {
			name := h.Name()
			if h.IsUnix() {
				name = unixMark + name
			}
			if seen[name] {
				// a host may be there several times, but lookup has to tell them apart
				name += "#" + strconv.Itoa(len(r.entries))
			}
			seen[name] = true
			r.entries = append(r.entries, entry{name: name, host: h, turn: turn, variant: v})
		}
	}
	for v := range r.variants {
		if len(r.cm.Hosts) > 1 { // with one, nobody is in need of the first pass
			r.entries = append(r.entries, entry{name: fmt.Sprintf("%s#%d", waitName, v), host: r.cm.Hosts[0], turn: -1,
				variant: v, waits: true})
		}
	}
	config.TLSConfig = nil
	config.Fallbacks = nil
	for i, e := range r.entries {
		port := portNumber(e.host.Port)
		if i == 0 {
			config.Host, config.Port = e.name, port
		} else {
			config.Fallbacks = append(config.Fallbacks, &pgconn.FallbackConfig{Host: e.name, Port: port})
		}
	}
	config.LookupFunc = r.lookup
	config.DialFunc = r.dial
	config.AfterNetConnect = r.afterNetConnect
	config.ConnectTimeout = 0 // pgconn's is for a host with all its instances; each attempt has its own
	if validate := config.ValidateConnect; validate != nil {
		config.ValidateConnect = func(ctx context.Context, pc *pgconn.PgConn) error {
			if c := unwrap(pc.Conn()); c != nil && !c.sql.Target().Direct() &&
				(len(r.cm.Hosts) == 1 || r.cm.Attribute != driver.PreferStandby) {
				return nil // conmgr has seen to it
			}
			if t := r.cm.ConnectTimeout; t > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, t)
				defer cancel()
			}
			err := validate(ctx, pc)
			var second *pgconn.NotPreferredError
			if c := unwrap(pc.Conn()); c != nil && errors.As(err, &second) {
				c.attempt.second = true
			}
			return err
		}
	}
}

// lookup looks nothing up: it marks the address that dial gets, so that it is told from that of a
// cancel request.
func (r *router) lookup(ctx context.Context, host string) ([]string, error) {
	for i, e := range r.entries {
		if e.name == host {
			name := e.host.Name()
			switch {
			case e.waits:
				name = waitName
			case e.host.IsUnix():
				name = unixMark + name
			}
			// with the port: a path may have a colon
			return []string{net.JoinHostPort(name+"#"+strconv.Itoa(i), e.host.Port)}, nil
		}
	}
	return net.DefaultResolver.LookupHost(ctx, host) // the application has changed Host
}

func (r *router) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if e := r.entryOf(address); e != nil {
		return newConn(ctx, r, e), nil
	}
	// A cancel request: pgconn dials the address of the connection. It must not wait for a host
	// that is known to be lost.
	r.mu.Lock()
	var related *driver.Conn
	for c := range r.conns[address] {
		if related == nil || related.Watch().Err() != nil {
			related = c
		}
	}
	r.mu.Unlock()
	if related != nil {
		return related.Again(ctx)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// entryOf is nil if the address is not one of lookup's.
func (r *router) entryOf(address string) *entry {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	if mark := strings.LastIndexByte(host, '#'); mark >= 0 {
		if i, err := strconv.Atoi(host[mark+1:]); err == nil && i >= 0 && i < len(r.entries) {
			return &r.entries[i]
		}
	}
	return nil
}

// afterNetConnect gives the conn the configuration, which is this connection's own.
func (r *router) afterNetConnect(_ context.Context, config *pgconn.Config, nc net.Conn) (net.Conn, error) {
	c, ok := nc.(*conn)
	if !ok {
		return nc, nil
	}
	if c.attempt == nil {
		a, err := newAttempt(r, config)
		if err != nil {
			return nc, err
		}
		c.attempt = a
	}
	c.config = config
	return nc, nil
}

// adopt makes a configuration that of an instance: its name, and its password out of the password
// file, unless the application has set another one.
func (r *router) adopt(config, own *pgconn.Config, t driver.Target) {
	config.Host, config.Port = t.Host, uint16(t.Port)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.passwords[config.Password] {
		config.Password = own.Password
		r.passwords[own.Password] = true
	}
}

// unwrap is nil if the router did not make the connection, or has not made it yet.
func unwrap(nc net.Conn) *conn {
	c, ok := nc.(*conn)
	if !ok || c.sql == nil {
		return nil
	}
	return c
}

func (r *router) remember(c *driver.Conn) {
	if c.Watch() == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	address := c.RemoteAddr().String()
	if r.conns[address] == nil {
		r.conns[address] = map[*driver.Conn]struct{}{}
	}
	r.conns[address][c] = struct{}{}
}

func (r *router) forget(c *driver.Conn) {
	if c.Watch() == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	address := c.RemoteAddr().String()
	delete(r.conns[address], c)
	if len(r.conns[address]) == 0 {
		delete(r.conns, address)
	}
}
