// Package scripted is a conmgr inside a test's process: the real console, binding, routing and
// listening, with instances that do what the test says instead of heartbeats. So clients are tested
// against the very answers, words and order of events of a running conmgr. What no conmgr would do
// (garbage, answers before they are asked for) is package hostile's.
//
//	scripted.go  the conmgr: its life, and what a test may ask of it
//	script.go    its instances: how they are set, lost and back
//	gate.go      connections that it leaves waiting
//
// The goroutines are those of conmgr's rooms (conmgr/doc.go); all have ended when Close returns.
package scripted

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/console"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/group"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// Options of a conmgr; the zero value is one on a free port of 127.0.0.1.
type Options struct {
	Listener net.Listener // instead of a port of its own
	Socket   string       // the path of a Unix socket, instead of a port
	// Ungated leaves connections as they are: conmgr can ask the kernel whose they are, as FORGET wants
	// it, and a test cannot freeze them.
	Ungated bool
	Full    bool   // there is no room for any connection (max_connections)
	Conf    string // lines of conmgr.conf, beside those of the instances
	// Reload is what RELOAD does; nil: no conmgr.conf is read again.
	Reload func() Reload
}

// Reload is what RELOAD does.
type Reload struct {
	Rows               [][3]string
	Text, Detail, Hint string // of an error; Text is "": there is none
	Then               func() // comes after the answer
}

// reloaded is the answer as the console wants it.
func (c *Conmgr) reloaded() (r console.Reloaded, written func(), ok bool) {
	does := c.reload()
	if does.Text != "" {
		r.Err = &backend.Error{Code: cm.ConfigFileError, Text: does.Text, Detail: does.Detail, Hint: does.Hint}
	}
	for _, row := range does.Rows {
		r.Changes = append(r.Changes, console.Changed{Name: row[0], Value: row[1], Effect: row[2]})
	}
	return r, does.Then, true
}

// Conmgr is a running one.
type Conmgr struct {
	group    *group.Group
	listener net.Listener
	accepts  sync.WaitGroup
	gate     gate

	conf   string
	reload func() Reload

	mu     sync.Mutex
	most   int
	sets   []*set // the last one serves new connections
	smart  bool
	ending bool
	closed bool

	asked  sync.Mutex // guards statements; innermost
	target []string
}

// New starts a conmgr with these instances, all of them established.
func New(instances ...Instance) (*Conmgr, error) { return Start(Options{}, instances...) }

// Start is New with options.
func Start(o Options, instances ...Instance) (*Conmgr, error) {
	l, err := o.Listener, error(nil)
	switch {
	case l != nil:
	case o.Socket != "":
		l, err = net.Listen("unix", o.Socket)
	default:
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	c := &Conmgr{listener: l, conf: o.Conf, reload: o.Reload, most: 1 << 20, group: &group.Group{OnPanic: func(name string, value any, stack []byte) {
		fmt.Fprintf(os.Stderr, "panic of %s: %v\n%s\n", name, value, stack)
		os.Exit(2) // of the test, which can have no other result
	}}}
	if o.Full {
		c.most = 0
	}
	c.gate.init(o.Ungated)
	if err := c.configure(instances); err != nil {
		l.Close()
		return nil, err
	}
	c.accepts.Add(1)
	go c.accept()
	return c, nil
}

func (c *Conmgr) accept() {
	defer c.accepts.Done()
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		if c.closed {
			conn.Close()
		} else {
			c.sets[len(c.sets)-1].console.Admit(c.gate.let(conn))
		}
		c.mu.Unlock()
	}
}

// Addr is where it listens.
func (c *Conmgr) Addr() string { return c.listener.Addr().String() }

// Port of it.
func (c *Conmgr) Port() int { return c.listener.Addr().(*net.TCPAddr).Port }

// Close ends it as a kill does: without a word to anybody.
func (c *Conmgr) Close() {
	c.mu.Lock()
	again, sets := c.closed, c.sets
	c.closed = true
	c.mu.Unlock()
	if again {
		return
	}
	c.listener.Close()
	c.accepts.Wait()
	c.gate.close()
	for _, s := range sets {
		s.end()
	}
	if !c.group.Wait(patience) {
		panic("goroutines of a scripted conmgr do not end")
	}
}

// SmartShutdown lets connections in, and names nobody an instance; what is bound remains.
func (c *Conmgr) SmartShutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.smart = true
	for _, s := range c.sets {
		s.registry.Refuse()
	}
}

// Shutdown is the end of a shutdown but for the closing of the port: who is connected is told, and
// a new connection gets no further than its startup.
func (c *Conmgr) Shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.smart, c.ending = true, true
	for _, s := range c.sets {
		s.registry.Refuse()
		s.registry.EndEverything(backend.Fatal(cm.AdminShutdown, bind.ShutdownText, "", ""))
	}
}

// Freeze stops it as a SIGSTOP does, but that it still tells of losses; Freeze(false) lets it go on.
func (c *Conmgr) Freeze(frozen bool) { c.gate.set(frozen, false) }

// FreezeAnswers has it answer startups, and no statement.
func (c *Conmgr) FreezeAnswers(frozen bool) { c.gate.set(false, frozen) }

// Connections counts all of them.
func (c *Conmgr) Connections() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sets {
		n += len(s.registry.Members())
	}
	return n
}

// Application is a connection that is bound to an instance.
type Application struct {
	Name, Target string
	Instance     int // number
}

// Applications are all that are bound.
func (c *Conmgr) Applications() (all []Application) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sets {
		for _, a := range s.registry.Applications() {
			all = append(all, Application{a.Name, a.Target, s.conf.Instances[a.Instance].Number})
		}
	}
	return all
}

// Bound counts the connections that are bound to an instance.
func (c *Conmgr) Bound(number int) (n int) {
	for _, a := range c.Applications() {
		if a.Instance == number {
			n++
		}
	}
	return n
}

// WaitBound waits until n connections are bound.
func (c *Conmgr) WaitBound(n int) error {
	return testkit.Poll(patience, func() (bool, string) {
		k := len(c.Applications())
		return k == n, fmt.Sprintf("%d bound connections, not %d", k, n)
	})
}

// WaitWaiting waits until n connections wait for an instance.
func (c *Conmgr) WaitWaiting(n int) error {
	return testkit.Poll(patience, func() (bool, string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		k := 0
		for _, s := range c.sets {
			k += len(s.registry.Waiting())
		}
		return k == n, fmt.Sprintf("%d connections wait, not %d", k, n)
	})
}

// Asked are the targets that were asked for and answered so far, as statements.
func (c *Conmgr) Asked() []string {
	c.asked.Lock()
	defer c.asked.Unlock()
	return slices.Clone(c.target)
}

// Startups are what clients have said of themselves so far, by TCP.
func (c *Conmgr) Startups() []map[string]string {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	return slices.Clone(c.gate.began)
}

// take is its subscriber.
func (c *Conmgr) take(e event.Event) {
	b, is := e.(event.Bound)
	if !is {
		return
	}
	statement := "SHOW TARGET " + string(b.Want)
	for i, n := range b.Except {
		statement += [...]string{" EXCEPT ", ", "}[min(i, 1)] + strconv.Itoa(n)
	}
	c.asked.Lock()
	defer c.asked.Unlock()
	c.target = append(c.target, statement)
}

// SocketPath is that of a Unix socket that clients take for a conmgr's or a server's.
func SocketPath(dir string, port int) string {
	return filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(port))
}
