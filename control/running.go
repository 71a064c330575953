package control

// Who runs in a directory, as cm_ctl and a second conmgr see it. Blocks on the file system, and for
// at most settleTime while a conmgr process that has just locked its file has not written it yet.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
)

// settleTime is how long a lock without a matching record may be that of a process between the two.
const settleTime = time.Second

// UnidentifiedError tells that somebody has the lock, and that the file does not say who. A signal
// would reach a stranger.
type UnidentifiedError struct {
	Path   string
	Reason string
}

func (e *UnidentifiedError) Error() string {
	return fmt.Sprintf("PID file \"%s\" is locked by a process that cannot be identified: %s", e.Path, e.Reason)
}

// ReadPidFile returns what DIR/conmgr.pid says, true or stale. The error is fs.ErrNotExist if there
// is no file.
func ReadPidFile(dir string) (Info, error) {
	file, err := openPidFile(filepath.Join(dir, cm.PidFile))
	if err != nil {
		return Info{}, err
	}
	defer file.Close()
	return readInfo(file)
}

// Running tells whether a conmgr process runs in dir. info is what its file says; if nobody runs
// but there is a stale file, what that says as far as it can be read (Pid is 0 otherwise). running
// is true and the error an *UnidentifiedError if the lock is taken, but not by a process of this
// machine's (or container's) present process table that the file describes: send no signal then.
func Running(dir string) (info Info, running bool, err error) {
	path := filepath.Join(dir, cm.PidFile)
	deadline := time.Now().Add(settleTime)
	for {
		file, err := openPidFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return Info{}, false, nil
		}
		if err != nil {
			return Info{}, false, err
		}
		locked, err := isLocked(file)
		if err != nil {
			_ = file.Close()
			return Info{}, false, fmt.Errorf("could not test the lock of PID file \"%s\": %w", path, err)
		}
		info, readErr := readInfo(file)
		_ = file.Close()
		if !locked {
			if readErr != nil {
				info = Info{}
			}
			return info, false, nil
		}
		reason := ""
		switch {
		case readErr != nil:
			reason = readErr.Error()
		case !info.matches():
			reason = fmt.Sprintf("no process with PID %d and the recorded start time is here (another machine or container?)", info.Pid)
		default:
			return info, true, nil
		}
		if time.Now().After(deadline) {
			return info, true, &UnidentifiedError{Path: path, Reason: reason}
		}
		time.Sleep(settleTime / 100) // nobody tells us when the record is written
	}
}

func openPidFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("could not open PID file \"%s\": %w", path, cause(err))
	}
	if st, err := file.Stat(); err != nil || !st.Mode().IsRegular() {
		_ = file.Close()
		return nil, fmt.Errorf("could not open PID file \"%s\": not a regular file", path)
	}
	return file, nil
}

// isLocked looks by taking a shared lock for a moment: two who look do not disturb each other, and
// CreatePidFile tells a look from an owner.
func isLocked(file *os.File) (bool, error) {
	fd := int(file.Fd())
	for {
		switch err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err {
		case nil:
			return false, unix.Flock(fd, unix.LOCK_UN)
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return true, nil
		default:
			return false, err
		}
	}
}

func readInfo(file *os.File) (Info, error) {
	b, err := io.ReadAll(io.NewSectionReader(file, 0, maxPidFile+1))
	if err != nil {
		return Info{}, fmt.Errorf("could not read PID file \"%s\": %w", file.Name(), cause(err))
	}
	if len(b) > maxPidFile {
		return Info{}, fmt.Errorf("invalid data in PID file \"%s\": longer than %d bytes", file.Name(), maxPidFile)
	}
	info, err := parseInfo(b)
	if err != nil {
		return Info{}, fmt.Errorf("invalid data in PID file \"%s\": %w", file.Name(), err)
	}
	return info, nil
}
