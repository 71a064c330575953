package control

// The record in conmgr.pid, one value a line. Pure; used by conmgr's main goroutine and by cm_ctl.

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

// Status is what conmgr says of itself in line 7.
type Status string

// The statuses, in the order in which they follow each other. StatusReady and StatusComplete stay
// when an instance is lost later; line 8 has what is there now.
const (
	StatusStarting Status = "starting"
	StatusReady    Status = "ready"    // heartbeats go to a primary
	StatusComplete Status = "complete" // heartbeats go to every configured instance
	StatusStopping Status = "stopping"
)

const (
	statusWidth   = 8         // line 7 is padded, so that it can be changed in place
	presenceWidth = 11        // and so is line 8
	maxPidFile    = 64 * 1024 // no pid file of ours is longer
	pidFileLines  = 7         // that each version has
)

// Presence is line 8: two facts of the instances.
type Presence struct {
	Known   bool // a conmgr of version 1.0 does not tell
	Primary bool // a primary is there
	All     bool // all are there
}

func (p Presence) String() string {
	switch {
	case p.Primary && p.All:
		return "primary,all"
	case p.Primary:
		return "primary"
	case p.All:
		return "all"
	}
	return "none"
}

// parsePresence reads what follows line 7. Words of later versions are left alone.
func parsePresence(rest string) (p Presence) {
	line, _, complete := strings.Cut(rest, "\n")
	if !complete {
		return p
	}
	p.Known = true
	for _, word := range strings.Split(strings.TrimRight(line, " "), ",") {
		p.Primary = p.Primary || word == "primary"
		p.All = p.All || word == "all"
	}
	return p
}

// Progress is how far a conmgr has come: lines 7 and 8, and line 10.
type Progress struct {
	Now, Been Presence // now, and at some time since its start
	Stopping  bool
	Refused   Refused
}

// Refused is line 10: that the process could not become another program, and goes on. There is none
// as long as it has not happened.
type Refused struct {
	Times uint64 // since its start
	Why   string // the last time; may have several lines
}

// mostWhy is kept of it.
const mostWhy = 4096

func (r Refused) String() string {
	why := r.Why
	if len(why) > mostWhy {
		why = strings.ToValidUTF8(why[:mostWhy], "") + "..."
	}
	return fmt.Sprintf("refused %d %q", r.Times, why)
}

// parseRefused reads line 10. One that is only half written is none.
func parseRefused(line string) (r Refused) {
	var why string
	if n, err := fmt.Sscanf(line, "refused %d %q", &r.Times, &why); err != nil || n != 2 {
		return Refused{}
	}
	r.Why = why
	return r
}

// status is the one word of line 7.
func (p Progress) status() Status {
	switch {
	case p.Stopping:
		return StatusStopping
	case p.Been.All:
		return StatusComplete
	case p.Been.Primary:
		return StatusReady
	}
	return StatusStarting
}

func (s Status) rank() int {
	switch s {
	case StatusStarting:
		return 1
	case StatusReady:
		return 2
	case StatusComplete:
		return 3
	case StatusStopping:
		return 4
	}
	return 0
}

// Info is what conmgr.pid tells.
type Info struct {
	Pid             int
	Dir             string // absolute
	Started         time.Time
	Port            int
	ListenAddresses string // as configured
	BootID          string // of the kernel that the process runs under
	// start time of the process in clock ticks since boot: tells it from a later one with its pid
	StartTicks uint64
	Status     Status
	Presence   Presence
	Again      Again
	Refused    Refused
}

// Again is line 9: how this conmgr can be started again so that nothing is lost. One of version 1.0
// has no such line, and cannot.
type Again struct {
	Returns bool   // it ends at SIGUSR1, and is waited for
	Becomes bool   // at SIGUSR2 it becomes the program that is installed now
	Image   string // another one each time that it has; empty: not told
}

func (a Again) String() string {
	var words []string
	if a.Returns {
		words = append(words, "returns")
	}
	if a.Becomes {
		words = append(words, "becomes")
	}
	return strings.Join(append(words, "image="+a.Image), " ")
}

// parseAgain reads line 9. Words of later versions are left alone.
func parseAgain(line string) (a Again) {
	for _, word := range strings.Fields(line) {
		switch image, is := strings.CutPrefix(word, "image="); {
		case is:
			a.Image = image
		case word == "returns":
			a.Returns = true
		case word == "becomes":
			a.Becomes = true
		}
	}
	return a
}

// encode returns the file and the offset of the status in it.
func (i Info) encode() ([]byte, int64, error) {
	for _, s := range []string{i.Dir, i.ListenAddresses, i.BootID} {
		if strings.ContainsAny(s, "\n\x00") {
			return nil, 0, fmt.Errorf("%q contains a newline, which %s cannot hold", s, cm.PidFile)
		}
	}
	if i.Status.rank() == 0 {
		return nil, 0, fmt.Errorf("unknown status %q", i.Status)
	}
	if i.Port < 1 || i.Port > 65535 {
		return nil, 0, fmt.Errorf("invalid port %d", i.Port)
	}
	head := fmt.Sprintf("%d\n%s\n%d\n%d\n%s\n%s %d\n", i.Pid, i.Dir, i.Started.Unix(), i.Port, i.ListenAddresses,
		i.BootID, i.StartTicks)
	b := append([]byte(head), i.tail()...)
	if i.Again != (Again{}) && i.Presence.Known {
		b = fmt.Appendf(b, "%s\n", i.Again)
	}
	if len(b) > maxPidFile {
		return nil, 0, fmt.Errorf("directory and listen addresses are too long for %s: %d bytes, at most %d",
			cm.PidFile, len(b), maxPidFile)
	}
	return b, int64(len(head)), nil
}

// tail is what changes.
func (i *Info) tail() []byte {
	b := fmt.Appendf(nil, "%-*s\n", statusWidth, i.Status)
	if i.Presence.Known {
		b = fmt.Appendf(b, "%-*s\n", presenceWidth, i.Presence)
	}
	return b
}

// parseInfo reads a file. Lines after the tenth are left to later versions.
func parseInfo(b []byte) (Info, error) {
	if len(b) == 0 {
		return Info{}, errors.New("is empty")
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return Info{}, errors.New("contains a zero byte")
	}
	lines := strings.SplitN(string(b), "\n", pidFileLines+1)
	if len(lines) <= pidFileLines {
		return Info{}, fmt.Errorf("has %d complete lines instead of %d", len(lines)-1, pidFileLines)
	}
	var i Info
	var err error
	bad := func(line int, what string) (Info, error) {
		return Info{}, fmt.Errorf("line %d: invalid %s %q", line, what, clip(lines[line-1]))
	}
	if i.Pid, err = strconv.Atoi(lines[0]); err != nil || i.Pid <= 0 {
		return bad(1, "process ID")
	}
	if i.Dir = lines[1]; !strings.HasPrefix(i.Dir, "/") {
		return bad(2, "directory")
	}
	seconds, err := strconv.ParseInt(lines[2], 10, 64)
	if err != nil {
		return bad(3, "start time")
	}
	i.Started = time.Unix(seconds, 0)
	if i.Port, err = strconv.Atoi(lines[3]); err != nil || i.Port < 1 || i.Port > 65535 {
		return bad(4, "port")
	}
	i.ListenAddresses = lines[4]
	boot, ticks, found := strings.Cut(lines[5], " ")
	if i.StartTicks, err = strconv.ParseUint(ticks, 10, 64); !found || boot == "" || err != nil {
		return bad(6, "boot id and start time")
	}
	i.BootID = boot
	if i.Status = Status(strings.TrimRight(lines[6], " ")); i.Status.rank() == 0 {
		return bad(7, "status")
	}
	i.Presence = parsePresence(lines[7])
	if _, rest, found := strings.Cut(lines[7], "\n"); found {
		if line, rest, complete := strings.Cut(rest, "\n"); complete {
			i.Again = parseAgain(line)
			if line, _, complete := strings.Cut(rest, "\n"); complete {
				i.Refused = parseRefused(line)
			}
		}
	}
	return i, nil
}

func clip(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
