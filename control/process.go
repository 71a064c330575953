package control

// Identity of a process: a pid alone is not one, it may be used again. Used by conmgr's main
// goroutine (about itself) and by cm_ctl; blocks on nothing but /proc, except waitExit, which
// blocks until its deadline.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pollInterval is how often something is looked at that nobody can tell us of; pg_ctl looks 10
// times a second.
const pollInterval = 50 * time.Millisecond

// bootID is random, and made at each boot of the kernel.
func bootID() (string, error) { return bootIDBelow("") }

func bootIDBelow(root string) (string, error) {
	b, err := os.ReadFile(root + "/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("could not read the boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// stat is what /proc/PID/stat says of a process.
type stat struct {
	state   byte   // field 3
	threads int    // field 20; 0 while the kernel forgets this one, or the thread that it was
	ticks   uint64 // field 22: when it was started, in clock ticks since boot
}

func readStat(pid int) (s stat, err error) {
	name := fmt.Sprintf("/proc/%d/stat", pid)
	b, err := os.ReadFile(name)
	if err != nil {
		return s, err
	}
	end := bytes.LastIndexByte(b, ')') // field 2 is the program's name in parentheses, and may contain anything
	fields := strings.Fields(string(b[end+1:]))
	if end < 0 || len(fields) < 20 {
		return s, fmt.Errorf("could not understand %s", name)
	}
	s.state = fields[0][0]
	if s.threads, err = strconv.Atoi(fields[17]); err == nil {
		s.ticks, err = strconv.ParseUint(fields[19], 10, 64)
	}
	return s, err
}

func startTicks(pid int) (uint64, error) {
	s, err := readStat(pid)
	return s.ticks, err
}

// matches tells whether the process that wrote the record is there.
func (i Info) matches() bool {
	ticks, err := startTicks(i.Pid)
	return err == nil && ticks == i.StartTicks && i.sameBoot()
}

// sameBoot: of the kernel as we see it, or as that process does. In a container of systemd-nspawn a
// service with a /proc of its own sees the kernel's boot id, and a shell the container's.
func (i Info) sameBoot() bool {
	for _, root := range []string{"", fmt.Sprintf("/proc/%d/root", i.Pid)} {
		if boot, err := bootIDBelow(root); err == nil && boot == i.BootID {
			return true
		}
	}
	return false
}

// process is a handle of the process that wrote a record. Where the kernel has pidfds (Linux 5.3),
// it cannot come to mean another one.
type process struct {
	info Info
	fd   int // pidfd, or -1
}

// openProcess returns errGone if the process is not there any more.
func openProcess(info Info) (*process, error) {
	fd, err := unix.PidfdOpen(info.Pid, 0)
	if err != nil {
		fd = -1
		if err == unix.ESRCH {
			return nil, errGone
		}
	}
	p := &process{info: info, fd: fd}
	if !info.matches() { // looked at after the handle was opened: from here on the handle is that process
		p.close()
		return nil, errGone
	}
	return p, nil
}

var errGone = errors.New("process is gone")

func (p *process) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}

// signal returns errGone if the process ended meanwhile.
func (p *process) signal(sig unix.Signal) error {
	var err error
	if p.fd >= 0 {
		err = unix.PidfdSendSignal(p.fd, sig, nil, 0)
	}
	if p.fd < 0 || err == unix.ENOSYS || err == unix.EPERM && !p.foreign() { // EPERM may be a sandbox's word for ENOSYS
		if !p.info.matches() {
			return errGone
		}
		err = unix.Kill(p.info.Pid, sig)
	}
	if err == unix.ESRCH {
		return errGone
	}
	return err
}

// foreign tells whether the process is another user's.
func (p *process) foreign() bool {
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d", p.info.Pid), &st)
	return err == nil && int(st.Uid) != os.Geteuid()
}

// waitExit blocks until the process has ended (true), or until the deadline or the end of ctx
// (false).
func (p *process) waitExit(ctx context.Context, deadline time.Time) bool {
	for ctx.Err() == nil {
		left := time.Until(deadline)
		if left <= 0 {
			return !p.alive()
		}
		if p.fd < 0 {
			if !p.alive() {
				return true
			}
			time.Sleep(min(left, pollInterval)) // a kernel without pidfds cannot tell us
			continue
		}
		// Bounded, so that the end of ctx is noticed too.
		ms := int(min(left, 4*pollInterval)/time.Millisecond) + 1
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, ms)
		if n > 0 {
			if !p.alive() {
				return true
			}
			time.Sleep(time.Millisecond) // a kernel before 6.16, and the process becomes another program
		}
		if err != nil && err != unix.EINTR {
			p.close() // go on without
		}
	}
	return false
}

// alive compares no boot id: openProcess has, and it cannot be read of a process that is about to
// become another program.
func (p *process) alive() bool {
	s, err := settled(p.info.Pid)
	return err == nil && s.ticks == p.info.StartTicks && !s.ended()
}

// zombie: the process has ended, its parent has not asked for its exit status yet.
func zombie(pid int) bool {
	s, err := settled(pid)
	return err == nil && s.ended()
}

// ended is not true of one that becomes another program: its first thread is dead until the one that
// does so has taken its place.
func (s stat) ended() bool { return s.dead() && s.threads <= 1 }

func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' }

// settled waits for what the kernel is about to forget: it is gone then, or is another thread.
func settled(pid int) (s stat, err error) {
	for range 1000 {
		if s, err = readStat(pid); err != nil || !s.dead() || s.threads > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return s, err
}
