package control

// The pid file of the running conmgr process. Run by conmgr's main goroutine, SetProgress by
// any goroutine; blocks on the file system only.

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
)

// RunningError tells that another conmgr process has the directory.
type RunningError struct {
	Pid int // 0: not known
}

func (e *RunningError) Error() string {
	if e.Pid == 0 {
		return "another conmgr process is running"
	}
	return fmt.Sprintf("another conmgr process(PID %d) is running", e.Pid)
}

// PidFile is conmgr.pid of this process, locked for as long as the process lives.
type PidFile struct {
	mu         sync.Mutex
	file       *os.File // nil after Remove
	path       string
	info       Info
	tailOffset int64 // of line 7
	end        int64 // of line 9
}

// CreatePidFile locks and writes DIR/conmgr.pid; a stale file is taken over. Values of info that
// are zero are those of this process and moment. The error is a *RunningError if another conmgr
// process has the directory.
func CreatePidFile(dir string, info Info) (*PidFile, error) {
	return createPidFile(dir, info, func(path string) (*os.File, error) { return lockPidFile(dir, path) })
}

// AdoptPidFile writes it anew, by the descriptor that this process had before it became another
// program, and which has the lock.
func AdoptPidFile(dir string, info Info, fd int) (*PidFile, error) {
	return createPidFile(dir, info, func(path string) (*os.File, error) {
		file := os.NewFile(uintptr(fd), path)
		ours, err := file.Stat()
		if err == nil {
			var now fs.FileInfo
			if now, err = os.Lstat(path); err == nil && !os.SameFile(ours, now) {
				err = errors.New("it is not this process's any more")
			}
		}
		if err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("could not take over PID file \"%s\": %w", path, cause(err))
		}
		return file, nil
	})
}

// Leave gives it up to the program that this process becomes: its descriptor, which stays locked.
func (p *PidFile) Leave() (fd int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return -1, fs.ErrClosed
	}
	if fd, err = unix.FcntlInt(p.file.Fd(), unix.F_DUPFD_CLOEXEC, 3); err == nil {
		_ = p.file.Close()
		p.file = nil
	}
	return fd, err
}

func createPidFile(dir string, info Info, open func(path string) (*os.File, error)) (*PidFile, error) {
	if err := info.complete(dir); err != nil {
		return nil, err
	}
	b, tailOffset, err := info.encode()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, cm.PidFile)
	file, err := open(path)
	if err != nil {
		return nil, err
	}
	p := &PidFile{file: file, path: path, info: info, tailOffset: tailOffset, end: int64(len(b))}
	// Written before it is cut: a reader finds at no time less than a record.
	if _, err = file.WriteAt(b, 0); err == nil {
		err = file.Truncate(int64(len(b)))
	}
	if err == nil {
		err = file.Chmod(0o600)
	}
	if err != nil {
		_ = p.Remove()
		return nil, fmt.Errorf("could not write PID file \"%s\": %w", path, cause(err))
	}
	return p, nil
}

// complete fills in what the caller left open.
func (i *Info) complete(dir string) (err error) {
	if i.Dir == "" {
		if i.Dir, err = filepath.Abs(dir); err != nil {
			return err
		}
	}
	if i.Pid == 0 {
		i.Pid = os.Getpid()
	}
	if i.Started.IsZero() {
		i.Started = time.Now()
	}
	if i.Status == "" {
		i.Status = StatusStarting
	}
	i.Presence.Known = true
	if i.BootID == "" {
		if i.BootID, err = bootID(); err != nil {
			return err
		}
	}
	if i.StartTicks == 0 {
		i.StartTicks, err = startTicks(i.Pid)
	}
	return err
}

// lockPidFile returns the file, locked, and still the one at path.
func lockPidFile(dir, path string) (*os.File, error) {
	// some 2 seconds; each is lost only to somebody who looks at the lock, or removes the file, at that very moment
	const attempts = 200
	for range attempts {
		// O_NONBLOCK: do not wait for ever if somebody has put a FIFO there.
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, fmt.Errorf("could not create PID file \"%s\": %w", path, cause(err))
		}
		st, err := file.Stat()
		if err == nil && !st.Mode().IsRegular() {
			err = errors.New("not a regular file")
		}
		if err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("could not create PID file \"%s\": %w", path, cause(err))
		}
		locked, err := tryLock(file)
		if err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("could not lock PID file \"%s\": %w", path, err)
		}
		if locked {
			if now, err := os.Lstat(path); err == nil && os.SameFile(st, now) {
				return file, nil
			}
			_ = file.Close() // removed by its former owner after we opened it
			continue
		}
		info, err := readInfo(file)
		_ = file.Close()
		if err == nil && info.matches() {
			return nil, &RunningError{Pid: info.Pid}
		}
		// A stranger has the lock, or an owner that has not written its record yet, or somebody
		// only looks at the lock.
		if info, running, err := Running(dir); running {
			var unknown *UnidentifiedError
			if errors.As(err, &unknown) {
				info.Pid = 0
			}
			return nil, &RunningError{Pid: info.Pid}
		}
		// The lock is free again, or was only looked at: others may try at the same time, so not in
		// step with them.
		time.Sleep(time.Duration(1+rand.IntN(20)) * time.Millisecond)
	}
	return nil, fmt.Errorf("could not lock PID file \"%s\": others keep locking it", path)
}

// tryLock: false if somebody else has a lock.
func tryLock(file *os.File) (bool, error) {
	for {
		switch err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case nil:
			return true, nil
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return false, nil
		default:
			return false, err
		}
	}
}

// SetProgress changes lines 7, 8 and 10. The status of line 7 never goes back.
func (p *PidFile) SetProgress(to Progress) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.info
	if s := to.status(); s.rank() > next.Status.rank() {
		next.Status = s
	}
	next.Presence = to.Now
	next.Presence.Known = true
	next.Refused = to.Refused
	if p.file == nil || next == p.info {
		return nil
	}
	_, err := p.file.WriteAt(next.tail(), p.tailOffset)
	if err == nil && next.Refused != p.info.Refused && next.Again != (Again{}) {
		b := fmt.Appendf(nil, "%s\n", next.Refused)
		if _, err = p.file.WriteAt(b, p.end); err == nil {
			err = p.file.Truncate(p.end + int64(len(b)))
		}
	}
	if err != nil {
		return fmt.Errorf("could not write PID file \"%s\": %w", p.path, cause(err))
	}
	p.info = next
	return nil
}

// Remove removes the file and gives the lock up, in this order. It does not touch a file that is
// not this process's.
func (p *PidFile) Remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil
	}
	ours, err := p.file.Stat()
	if err == nil {
		var now fs.FileInfo
		if now, err = os.Lstat(p.path); err == nil && os.SameFile(ours, now) {
			err = os.Remove(p.path)
		}
	}
	_ = p.file.Close()
	p.file = nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("could not remove PID file \"%s\": %w", p.path, cause(err))
	}
	return nil
}

// cause is the error without the operation and path that our own message names already.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
