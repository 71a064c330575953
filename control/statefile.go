package control

// conmgr.state: what conmgr knows of its set of instances, kept over its restarts. Written by
// whoever has the lock of conmgr.pid: the running conmgr (one goroutine), or cm_ctl forget while
// none runs. Blocks on the file system only.

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
)

const (
	stateVersion  = "1"
	maxStateFile  = 64 * 1024
	damagedSuffix = ".damaged"

	temporarySuffix = ".tmp"
)

// State is the content of the file. The zero value is: nothing is known, and no file.
type State struct {
	SystemIdentifier uint64
	Timeline         uint32 // 0: none; the next eight are of it
	Since            time.Time
	Earlier          []Step // the timelines before, the latest last
	Instance         int    // number, where it was seen
	Host             string
	HostAddr         netip.Addr // may be invalid
	Port             int
	PostmasterStart  int64 // microseconds since 1970
	Holds            bool  // it was a primary
	Successions      []Succession
}

// Step is a timeline, and when it became known.
type Step struct {
	Timeline uint32
	Since    time.Time
}

// Succession of one cluster to another, at a timeline.
type Succession struct {
	From, To uint64
	Timeline uint32
}

// DamagedError tells that the file is there, and cannot be used.
type DamagedError struct {
	Path   string
	Reason error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("could not use file \"%s\": %v", e.Path, e.Reason)
}

func (e *DamagedError) Unwrap() error { return e.Reason }

// LoadState reads the file of a directory. Without a file, nothing is known. Another error is a
// *DamagedError.
func LoadState(dir string) (State, error) {
	path := filepath.Join(dir, cm.StateFile)
	if s, err := loadState(path + temporarySuffix); err == nil && s.SystemIdentifier != 0 {
		return s, nil // its writer was killed before it could rename it
	}
	return loadState(path)
}

func loadState(path string) (State, error) {
	b, err := readKept(path)
	if b == nil || err != nil {
		return State{}, err
	}
	s, err := parseState(b)
	if err != nil {
		return State{}, &DamagedError{path, err}
	}
	return s, nil
}

// readKept reads a file that is kept over restarts; nil: there is none. The error is a
// *DamagedError.
func readKept(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &DamagedError{path, cause(err)}
	}
	defer file.Close()
	if st, err := file.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, &DamagedError{path, errors.New("it is not a regular file")}
	}
	b, err := io.ReadAll(io.LimitReader(file, maxStateFile+1))
	if err != nil {
		return nil, &DamagedError{path, cause(err)}
	}
	return b, nil
}

// SetAside renames a file of a directory that cannot be used, and returns its new path. An older
// one of that name is lost.
func SetAside(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	aside := path + damagedSuffix
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("could not rename file \"%s\" to \"%s\": %w", path, aside, linkCause(err))
	}
	return aside, nil
}

func linkCause(err error) error {
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return cause(err)
}

// SaveState replaces the file of a directory, so that a reader, also one after a power failure,
// finds the old or the new one whole. written, unless it is nil, is called as soon as it is the new
// one if this process is killed: before the disk has it.
func SaveState(dir string, s State, written func()) error {
	path := filepath.Join(dir, cm.StateFile)
	if err := replaceFile(dir, path, s.encode(), written); err != nil {
		return fmt.Errorf("could not write file \"%s\": %w", path, linkCause(err))
	}
	return nil
}

func replaceFile(dir, path string, content []byte, written func()) error {
	err := renameOver(path, content, func(file *os.File) error {
		if written != nil {
			written()
		}
		return file.Sync()
	})
	if err != nil {
		return err
	}
	return syncDirectory(dir)
}

// renameOver replaces a file; then is called when the new one is written, before it takes the name.
func renameOver(path string, content []byte, then func(*os.File) error) error {
	temporary := path + temporarySuffix
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	if _, err = file.Write(content); err == nil {
		err = then(file)
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

// syncDirectory makes what was renamed or removed in it outlive a power failure.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Forget returns the state without what one instance told of the timeline; number < 0: without
// anything.
func (s State) Forget(number int) State {
	switch {
	case number < 0:
		return State{}
	case s.Timeline == 0 || s.Instance != number:
		return s
	}
	return State{SystemIdentifier: s.SystemIdentifier, Successions: s.Successions}
}

// String tells it to people.
func (s State) String() string {
	switch {
	case s.SystemIdentifier == 0:
		return "nothing"
	case s.Timeline == 0:
		return fmt.Sprintf("system identifier %d", s.SystemIdentifier)
	}
	return fmt.Sprintf("system identifier %d, timeline %d of instance %d (host %q)", s.SystemIdentifier, s.Timeline,
		s.Instance, s.Host)
}

func (s State) encode() []byte {
	b := []byte("# What conmgr has learned of its instances. \"cm_ctl forget\" is the way to change it.\n")
	add := func(name string, value any) { b = fmt.Appendf(b, "%s = %v\n", name, value) }
	add("version", stateVersion)
	add("system_identifier", s.SystemIdentifier)
	if s.Timeline > 0 {
		add("timeline", s.Timeline)
		add("since", s.Since.UTC().Format(time.RFC3339Nano))
		for _, e := range s.Earlier {
			add("earlier", fmt.Sprintf("%d %s", e.Timeline, e.Since.UTC().Format(time.RFC3339Nano)))
		}
		add("instance", s.Instance)
		add("host", strconv.Quote(s.Host))
		if s.HostAddr.IsValid() {
			add("hostaddr", s.HostAddr)
		}
		add("port", s.Port)
		add("postmaster_start", s.PostmasterStart)
		add("holds", s.Holds)
	}
	for _, o := range s.Successions {
		add("succession", fmt.Sprintf("%d %d %d", o.From, o.To, o.Timeline))
	}
	return withChecksum(string(b))
}

const checksum = "checksum = "

func withChecksum(text string) []byte {
	return fmt.Appendf(nil, "%s%s%08x\n", text, checksum, crc32.ChecksumIEEE([]byte(text)))
}

// parseState accepts names that it does not know: a later version may have added them.
func parseState(b []byte) (s State, err error) {
	if err := parseKept(b, s.set); err != nil {
		return State{}, err
	}
	return s, nil
}

// parseKept checks a file, and sets each of its settings.
func parseKept(b []byte, set func(name, value string) error) (err error) {
	if len(b) > maxStateFile {
		return fmt.Errorf("it is longer than %d bytes", maxStateFile)
	}
	text := string(b[:max(0, bytes.LastIndex(b, []byte(checksum)))])
	if string(b) != string(withChecksum(text)) {
		return errors.New("it is damaged: its checksum is wrong or missing")
	}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, found := strings.Cut(line, " = ")
		if !found {
			err = errors.New("not a setting")
		} else {
			err = set(name, value)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return nil
}

// knownVersion checks that of a file.
func knownVersion(value string) error {
	if value != stateVersion {
		return fmt.Errorf("version %q is not one that this program knows", clip(value))
	}
	return nil
}

func (s *State) set(name, value string) (err error) {
	unsigned := func(bits int) (n uint64) {
		n, err = strconv.ParseUint(value, 10, bits)
		return n
	}
	switch name {
	case "version":
		return knownVersion(value)
	case "system_identifier":
		s.SystemIdentifier = unsigned(64)
	case "timeline":
		s.Timeline = uint32(unsigned(32))
	case "since":
		s.Since, err = time.Parse(time.RFC3339Nano, value)
	case "earlier":
		timeline, since, _ := strings.Cut(value, " ")
		value = timeline
		e := Step{Timeline: uint32(unsigned(32))}
		if err == nil {
			e.Since, err = time.Parse(time.RFC3339Nano, since)
		}
		s.Earlier = append(s.Earlier, e)
	case "instance":
		s.Instance = int(unsigned(31))
	case "host":
		s.Host, err = strconv.Unquote(value)
	case "hostaddr":
		s.HostAddr, err = netip.ParseAddr(value)
	case "port":
		s.Port = int(unsigned(16))
	case "postmaster_start":
		s.PostmasterStart, err = strconv.ParseInt(value, 10, 64)
	case "holds":
		s.Holds, err = strconv.ParseBool(value)
	case "succession":
		var o Succession
		_, err = fmt.Sscanf(value, "%d %d %d", &o.From, &o.To, &o.Timeline)
		s.Successions = append(s.Successions, o)
	}
	if err != nil {
		return fmt.Errorf("invalid %s %q", name, clip(value))
	}
	return nil
}
