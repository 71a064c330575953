package control

// conmgr.identity: who a conmgr is to the watchdogs, kept over its restarts, so that the next
// process takes over what this one had. Written by the running conmgr, which has the lock of
// conmgr.pid. It means something until the machine is restarted, and so it is never synced: what a
// killed process has written is there. Blocks on the file system only.

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
)

// Identity is the content of the file.
type Identity struct {
	ID   [16]byte
	Boot string // of the machine, where it was made
	// Directory is the device and inode of the directory in which it was made: a copy has others.
	Directory string
	Entries   []IdentityEntry
}

// IdentityEntry is an instance. It keeps its number when conmgr.conf gives it another one.
type IdentityEntry struct {
	Number     int // of which its id is made
	Name       string
	Port       int
	Generation uint64 // that was told
}

// NewIdentity is one of this boot and that directory, without an id.
func NewIdentity(dir string) (Identity, error) {
	boot, err := bootID()
	if err != nil {
		return Identity{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return Identity{}, fmt.Errorf("could not look at directory \"%s\": %w", dir, err)
	}
	return Identity{Boot: boot, Directory: fmt.Sprintf("%d:%d", st.Dev, st.Ino)}, nil
}

// Clone is a copy of its own.
func (i Identity) Clone() Identity {
	i.Entries = slices.Clone(i.Entries)
	return i
}

// Entry is the index of an instance's entry, which is made if there is none: with that number, or
// with one that no other has.
func (i *Identity) Entry(number int, name string, port int) int {
	taken := map[int]bool{}
	for n, e := range i.Entries {
		if e.Name == name && e.Port == port {
			return n
		}
		taken[e.Number] = true
	}
	for taken[number] {
		number++
	}
	i.Entries = append(i.Entries, IdentityEntry{Number: number, Name: name, Port: port})
	return len(i.Entries) - 1
}

// LoadIdentity reads the file of a directory. found is false if there is none, or if it is of
// another boot of the machine, or was copied here: then who had it does not live here. The error is
// a *DamagedError.
func LoadIdentity(dir string) (i Identity, found bool, err error) {
	now, err := NewIdentity(dir)
	if err != nil {
		return i, false, nil
	}
	path := filepath.Join(dir, cm.IdentityFile)
	b, err := readKept(path)
	if err != nil {
		return now, false, err
	}
	if len(b) == 0 { // there is none, or the machine has died before it was on the disk
		return now, false, nil
	}
	if err := parseKept(b, i.set); err != nil {
		return now, false, &DamagedError{path, err}
	}
	if i.ID == ([16]byte{}) {
		return now, false, &DamagedError{path, errors.New("it has no id")}
	}
	if i.Boot != now.Boot || i.Directory != now.Directory {
		return now, false, nil
	}
	return i, true, nil
}

// HasIdentity tells whether there is a file.
func HasIdentity(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, cm.IdentityFile))
	return err == nil
}

// SaveIdentity replaces the file of a directory.
func SaveIdentity(dir string, i Identity) error {
	path := filepath.Join(dir, cm.IdentityFile)
	if err := renameOver(path, i.encode(), func(*os.File) error { return nil }); err != nil {
		return fmt.Errorf("could not write file \"%s\": %w", path, linkCause(err))
	}
	return nil
}

func (i Identity) encode() []byte {
	b := []byte("# Who this conmgr is to the servers, until the machine is restarted. Do not copy it, or change it.\n")
	b = fmt.Appendf(b, "version = %s\nid = %x\nboot = %s\ndirectory = %s\n", stateVersion, i.ID, i.Boot, i.Directory)
	for _, e := range i.Entries {
		b = fmt.Appendf(b, "instance = %d %d %d %q\n", e.Number, e.Port, e.Generation, e.Name)
	}
	return withChecksum(string(b))
}

// set accepts names that it does not know: a later version may have added them.
func (i *Identity) set(name, value string) error {
	var err error
	switch name {
	case "version":
		return knownVersion(value)
	case "id":
		var id []byte
		if id, err = hex.DecodeString(value); err == nil && copy(i.ID[:], id) != len(i.ID) || len(id) > len(i.ID) {
			err = errors.New("its length is another one")
		}
	case "boot":
		i.Boot = value
	case "directory":
		i.Directory = value
	case "instance":
		var e IdentityEntry
		_, err = fmt.Sscanf(value, "%d %d %d %q", &e.Number, &e.Port, &e.Generation, &e.Name)
		i.Entries = append(i.Entries, e)
	}
	if err != nil {
		return fmt.Errorf("invalid %s %q", name, clip(value))
	}
	return nil
}
