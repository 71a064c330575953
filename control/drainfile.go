package control

// conmgr.drain: the instances that "cm_ctl drain" drains on this host, kept over restarts of conmgr.
// Written by the running conmgr, by one goroutine at a time. Blocks on the file system only.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pgwatchdog/watchdog/cm"
)

// Drained is an entry of conmgr.conf. Its number may be another one by now.
type Drained struct {
	Number int
	Host   string
	Port   int
}

func (d Drained) String() string {
	return fmt.Sprintf("instance %d (host %q, port %d)", d.Number, d.Host, d.Port)
}

// LoadDrained reads the file of a directory. The error is a *DamagedError.
func LoadDrained(dir string) (all []Drained, err error) {
	path := filepath.Join(dir, cm.DrainFile)
	b, err := readKept(path)
	if b == nil || err != nil {
		return nil, err
	}
	err = parseKept(b, func(name, value string) error {
		switch name {
		case "version":
			return knownVersion(value)
		case "instance":
			d, err := parseDrained(value)
			all = append(all, d)
			return err
		}
		return nil // of a later version
	})
	if err != nil {
		return nil, &DamagedError{path, err}
	}
	return all, nil
}

// SaveDrained replaces the file of a directory, as SaveState does. Where nothing is drained there
// is none.
func SaveDrained(dir string, all []Drained) error {
	path := filepath.Join(dir, cm.DrainFile)
	if len(all) == 0 {
		err := os.Remove(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err == nil:
			err = syncDirectory(dir)
		}
		if err != nil {
			return fmt.Errorf("could not remove file \"%s\": %w", path, cause(err))
		}
		return nil
	}
	if err := replaceFile(dir, path, encodeDrained(all), nil); err != nil {
		return fmt.Errorf("could not write file \"%s\": %w", path, linkCause(err))
	}
	return nil
}

func encodeDrained(all []Drained) []byte {
	b := []byte("# Instances that are drained on this host. \"cm_ctl undrain\" is the way to change it.\n")
	b = fmt.Appendf(b, "version = %s\n", stateVersion)
	for _, d := range all {
		b = fmt.Appendf(b, "instance = %d %d %q\n", d.Number, d.Port, d.Host)
	}
	return withChecksum(string(b))
}

// parseDrained reads a number, a port, and a host in quotes.
func parseDrained(value string) (d Drained, err error) {
	number, rest, _ := strings.Cut(value, " ")
	port, host, _ := strings.Cut(rest, " ")
	d.Number, err = strconv.Atoi(number)
	if err == nil {
		d.Port, err = strconv.Atoi(port)
	}
	if err == nil {
		d.Host, err = strconv.Unquote(host)
	}
	if err != nil || d.Number < 0 || d.Number > cm.MaxInstanceNumber || d.Port < 1 || d.Port > 65535 {
		return Drained{}, fmt.Errorf("invalid instance %q", clip(value))
	}
	return d, nil
}
