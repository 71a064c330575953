package hook

// A command that runs. Its process is a child of this one, and known by its number alone, so that it
// can be handed over. Blocks for a glance at most, and at its end for endTime.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
)

const (
	// mostOutput of the command is kept, for the log if it fails.
	mostOutput = 512
	// endTime is for its last words once it has ended or was killed.
	endTime = time.Second
	// glance is how often one that says nothing is looked at.
	glance = 50 * time.Millisecond
)

type command struct {
	of    event.Record
	pid   int
	out   *os.File // what it writes
	said  []byte   // the beginning of it
	until time.Time
	limit time.Duration // which ends then
}

// begin starts one in a directory, "": that of this process.
func begin(text, dir string, limit time.Duration, of event.Record) (*command, error) {
	in, err := input(of)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, writes, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer writes.Close()
	c := exec.Command("/bin/sh", "-c", text)
	c.Dir, c.Stdin, c.Stdout, c.Stderr = dir, in, writes, writes
	// A group of its own: at the time limit, what it has started ends with it.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		_ = out.Close()
		return nil, err
	}
	begun := &command{of: of, pid: c.Process.Pid, out: out, until: time.Now().Add(limit), limit: limit}
	_ = c.Process.Release()
	return begun, nil
}

// input is a file in memory with the event, so that nobody has to write while the command reads.
func input(of event.Record) (*os.File, error) {
	b, err := json.Marshal(of)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("event", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("could not create a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "event")
	if _, err = f.Write(append(b, '\n')); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// leave is what the process that this one becomes has to know of it.
func (c *command) leave() *handover.Command {
	left := &handover.Command{Event: c.of, PID: c.pid, Said: c.said, Left: time.Until(c.until), Limit: c.limit}
	raw, err := c.out.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { left.Output, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
	}
	if err != nil {
		return nil
	}
	return left
}

func adopt(left *handover.Command) *command {
	_ = unix.SetNonblock(left.Output, true) // as it was: reads have a deadline
	return &command{of: left.Event, pid: left.PID, out: os.NewFile(uintptr(left.Output), "event_command"),
		said: left.Said, until: time.Now().Add(left.Left), limit: left.Limit}
}

// wait waits for its end, which is at its time limit at the latest. It returns what went wrong, "" if
// nothing did; ended is false if ctx ends before.
func (c *command) wait(ctx context.Context) (why string, ended bool) {
	for pause := time.Millisecond; ; pause = min(2*pause, glance) {
		if failed, ended := c.reap(); ended {
			c.listen(ctx, endTime)
			_ = c.out.Close()
			return c.tell(failed), true
		}
		if !time.Now().Before(c.until) {
			c.kill()
			return c.tell(fmt.Sprintf("it was ended after %v", c.limit)), true
		}
		if ctx.Err() != nil {
			return "", false
		}
		if end := time.Now().Add(pause); !c.listen(ctx, pause) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Until(end)):
			}
		}
	}
}

// reap tells whether its process has ended, and by what if it has failed.
func (c *command) reap() (failed string, ended bool) {
	var status unix.WaitStatus
	pid, err := unix.Wait4(c.pid, &status, unix.WNOHANG, nil)
	switch {
	case err == unix.EINTR || err == nil && pid == 0:
		return "", false
	case err != nil: // the process before this one has seen its end
		return "", true
	case status.Signaled():
		return "signal: " + status.Signal().String(), true
	case status.ExitStatus() != 0:
		return fmt.Sprintf("exit status %d", status.ExitStatus()), true
	}
	return "", true
}

// kill ends it with all that it has started.
func (c *command) kill() {
	_ = unix.Kill(-c.pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(c.pid, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	c.listen(context.Background(), 0)
	_ = c.out.Close()
}

// listen reads what it writes for a time, or until ctx ends. It returns false if nobody can write
// any more.
func (c *command) listen(ctx context.Context, patience time.Duration) bool {
	b, end := make([]byte, 4096), time.Now().Add(patience)
	for over := false; !over && ctx.Err() == nil; {
		look := time.Now().Add(glance)
		if over = !look.Before(end); over {
			look = end
		}
		_ = c.out.SetReadDeadline(look)
		n, err := c.out.Read(b)
		c.said = append(c.said, b[:min(n, mostOutput-len(c.said))]...)
		if err != nil && !os.IsTimeout(err) {
			return false
		}
		over = over && err != nil
	}
	return true
}

// tell adds what it has said to what went wrong; "": nothing did.
func (c *command) tell(failed string) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(c.said), "?")), " ")
	if failed == "" || text == "" {
		return failed
	}
	return failed + ": " + text
}
