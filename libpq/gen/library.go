package main

// What a libpq exports, read from the library itself or from a list of it that was kept (testdata/),
// and what the list of functions must say of it.

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// library is a libpq.
type library struct {
	path    string
	name    string // of its package, else of its file
	major   int    // of its PostgreSQL; 0: unknown
	exports map[string]uint64
}

// keptLibrary is the first line of a list that was kept.
var keptLibrary = regexp.MustCompile(`^# (libpq5 (\d+)\S*)`)

// fileOfMajor is how libpq names its file: libpq.so.5.17 is PostgreSQL 17's.
var fileOfMajor = regexp.MustCompile(`^libpq\.so\.5\.(\d+)$`)

func readLibrary(path string) (*library, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("could not read the installed libpq: %w", err)
	}
	lib := &library{path: path, name: filepath.Base(path)}
	if m := keptLibrary.FindSubmatch(text); m != nil {
		lib.name = string(m[1])
		lib.major, _ = strconv.Atoi(string(m[2]))
		lib.exports, err = keptExports(path, text)
		return lib, err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		lib.name = filepath.Base(real)
		if m := fileOfMajor.FindStringSubmatch(lib.name); m != nil {
			lib.major, _ = strconv.Atoi(m[1])
		}
	}
	lib.exports, err = exports(path, text)
	return lib, err
}

// list is what is kept of a library: a name a line, and the size of what is no function.
func (lib *library) list(name string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: what it exports, as libpq/gen -exports prints it; make front-exports writes it.\n", name)
	for _, n := range slices.Sorted(maps.Keys(lib.exports)) {
		if size := lib.exports[n]; size > 0 {
			fmt.Fprintf(&b, "%s %d\n", n, size)
		} else {
			fmt.Fprintln(&b, n)
		}
	}
	return b.Bytes()
}

func keptExports(path string, text []byte) (map[string]uint64, error) {
	names := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		var size uint64
		var err error
		if len(fields) == 2 {
			size, err = strconv.ParseUint(fields[1], 10, 64)
		}
		if err != nil || len(fields) > 2 {
			return nil, fmt.Errorf("%s: expected a name, or a name and a size: %s", path, strings.TrimSpace(line))
		}
		names[fields[0]] = size
	}
	return names, nil
}

// exports gives the names that the library defines for others, and the size of each variable.
func exports(path string, text []byte) (map[string]uint64, error) {
	file, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("could not read the installed libpq: %s: %w", path, err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	names := map[string]uint64{}
	for _, s := range symbols {
		if s.Section == elf.SHN_UNDEF || strings.HasPrefix(s.Name, "_") {
			continue
		}
		if s.Name == "PQcmSocket" {
			return nil, fmt.Errorf("%s is the front itself: name the real libpq", path)
		}
		switch elf.ST_TYPE(s.Info) {
		case elf.STT_FUNC:
			names[s.Name] = 0
		case elf.STT_OBJECT:
			names[s.Name] = s.Size
		}
	}
	return names, nil
}

// compare is an error if the library exports something that is not in the list, or lacks what every
// libpq has.
func compare(functions []function, lib *library, list string) error {
	var missing []string
	unknown := maps.Clone(lib.exports)
	for _, f := range functions {
		delete(unknown, f.name)
		if _, ok := lib.exports[f.name]; !ok && f.since <= oldest {
			missing = append(missing, f.name)
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("%s (%s) exports functions that %s does not class: %s\nAdd a line for each: the front must know which take a PGconn",
			lib.path, lib.name, list, strings.Join(slices.Sorted(maps.Keys(unknown)), ", "))
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s (%s) lacks %s: it is no libpq of PostgreSQL %d or later", lib.path, lib.name,
			strings.Join(missing, ", "), oldest)
	}
	return nil
}

// sinceOf is an error if a library whose version is known does not have exactly what the list says
// that this version has.
func sinceOf(functions []function, lib *library, list string) error {
	var errs []error
	for _, f := range functions {
		_, has := lib.exports[f.name]
		switch {
		case lib.major == 0:
		case has && f.since > lib.major:
			errs = append(errs, fmt.Errorf("%s: %s is since %d: %s (%s) has it", list, f.name, f.since, lib.path, lib.name))
		case !has && f.since <= lib.major && f.since > oldest:
			errs = append(errs, fmt.Errorf("%s: %s is since %d: %s (%s) does not have it", list, f.name, f.since, lib.path, lib.name))
		}
	}
	return errors.Join(errs...)
}
