// Package handover is what a conmgr process leaves to the program that it becomes (execve): its
// ports and pid file, and what is relayed, as descriptors that stay open, and a record of them in a
// file in memory. Plain data and descriptors; run by the main goroutine, which blocks on nothing
// here.
//
//	handover.go  the record, left and taken
package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/event"
)

// version of the record. A program says by `conmgr --check` with cm.HandoverOption which one it
// knows: change both when fields get another meaning. Fields may be added.
const version = 1

// variable of the environment has the descriptor of the record.
const variable = "CONMGR_HANDOVER"

// Record is all of it.
type Record struct {
	Version   int
	PidFile   int // descriptor
	Listeners []Listener
	HTTP      []Listener // of http_port and health_port
	Epochs    []Epoch
	Relayed   []Relayed
	Waiting   []Waiting
	Sessions  []Session          // of the console
	Events    []event.Record     // the last ones
	Hooked    []event.Record     // those that wait for event_command
	Command   *Command           // the event_command that runs, if one does
	Counts    []Count            // of SHOW STATS and of the metrics
	Times     []Times            // round trips of heartbeats
	Kept      map[string]*string // parameters that stay, whatever conmgr.conf says; nil: the default
}

// Listener is an open port, or a Unix socket.
type Listener struct {
	Network, Address string // as net.Listener has them
	FD               int
}

// Epoch is an instance as it was when connections to it were handed over.
type Epoch struct {
	Name             string // as configured
	Port             int
	SystemIdentifier uint64
	PostmasterStart  int64
	KnownSince       uint64
	Generation       uint64
}

// Relayed is a relayed connection: both sockets, and what was read of each and is not sent yet.
type Relayed struct {
	Client, Server         int
	FromClient, FromServer []byte
	Heard                  bool // the instance has said something
	Attribute              string
	Since                  time.Time
	Epoch                  int // index of it
}

// Session is one of the console that is bound to nothing, and has asked nothing that is not answered.
type Session struct {
	FD              int
	Since           time.Time
	Name, FirstName string        // of the application, and as its startup had it
	Wait, FirstWait time.Duration // the same of its target_wait
}

// Waiting is a connection to a relay port that waits for an instance: what was read of it, to which
// nothing was answered.
type Waiting struct {
	Client       int
	First        []byte
	Attribute    string
	Since, Until time.Time
}

// Command is an event_command that runs: a child of this process.
type Command struct {
	Event       event.Record // for which it runs
	PID         int
	Output      int           // descriptor of what it writes
	Said        []byte        // the beginning of what it has written
	Left, Limit time.Duration // of its time, and all of it
}

// Count is a counter as it was.
type Count struct {
	Name     string
	Instance int    // number of it, -1: it is of none
	Host     string // of the instance, as configured
	Labels   map[string]string
	N        float64
}

// Times is a histogram of an instance.
type Times struct {
	Instance int
	Host     string
	Bounds   []float64 // of its buckets, upper ones
	Counts   []uint64  // in each, and beyond the last
	Sum      float64   // seconds
}

// descriptors are all that it names.
func (r *Record) descriptors() (all []int) {
	all = append(all, r.PidFile)
	for _, l := range slices.Concat(r.Listeners, r.HTTP) {
		all = append(all, l.FD)
	}
	for _, c := range r.Relayed {
		all = append(all, c.Client, c.Server)
	}
	for _, c := range r.Waiting {
		all = append(all, c.Client)
	}
	for _, c := range r.Sessions {
		all = append(all, c.FD)
	}
	if r.Command != nil {
		all = append(all, r.Command.Output)
	}
	return all
}

// Leave puts the record where the program finds it that this process becomes, and lets its
// descriptors stay open. It returns what is to be added to the environment.
func Leave(r Record) (environment string, err error) {
	r.Version = version
	b, err := json.Marshal(&r)
	if err != nil {
		return "", err
	}
	fd, err := unix.MemfdCreate("conmgr-handover", unix.MFD_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("could not create a file in memory: %w", err)
	}
	for rest := b; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			return "", fmt.Errorf("could not write a file in memory: %w", err)
		}
		rest = rest[n:]
	}
	for _, fd := range append(r.descriptors(), fd) {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return "", fmt.Errorf("could not keep a descriptor open: %w", err)
		}
	}
	return variable + "=" + strconv.Itoa(fd), nil
}

// Take takes what was left, nil if nothing was.
func Take() (*Record, error) {
	value, left := os.LookupEnv(variable)
	if !left {
		return nil, nil
	}
	_ = os.Unsetenv(variable)
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q, which is no descriptor", variable, value)
	}
	file := os.NewFile(uintptr(fd), variable)
	defer file.Close()
	b, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<40))
	if err != nil {
		return nil, fmt.Errorf("could not read what the process before has left: %w", err)
	}
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("could not understand what the process before has left: %w", err)
	}
	for _, fd := range r.descriptors() {
		if fd < 3 {
			return nil, errors.New("what the process before has left names a descriptor that is none")
		}
		unix.CloseOnExec(fd)
	}
	if r.Version != version {
		return nil, fmt.Errorf("what the process before has left is of version %d", r.Version)
	}
	return r, nil
}
