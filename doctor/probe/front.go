package probe

// The libpq front that programs of this host would use, and the libpq that it stands before: their
// exported functions are compared, as the dynamic loader would find them.

import (
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgwatchdog/watchdog/doctor"
)

const libpqName = "libpq.so.5"

// ownFunctions are those that the front adds (libpq/libpq-cm.h). Append only.
var ownFunctions = []string{"PQcmSocket", "PQcmDraining"}

// front looks at the one of LD_LIBRARY_PATH, beside cm_ctl, or where it is installed.
func front(getenv func(string) string) (f doctor.Front) {
	var dirs []string
	dirs = append(dirs, filepath.SplitList(getenv("LD_LIBRARY_PATH"))...)
	if exe, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(exe), "../lib/connmgr"), filepath.Join(filepath.Dir(exe), "connmgr"))
	}
	for _, d := range append(dirs, "/usr/local/lib/connmgr", "/usr/lib/connmgr") {
		path := filepath.Join(d, libpqName)
		symbols, err := exported(path)
		if os.IsNotExist(err) || err == nil && !slices.Contains(symbols, ownFunctions[0]) {
			continue
		}
		f.Path = path
		if err != nil {
			f.Problem = err.Error()
			return f
		}
		f.Libpq = libpq(getenv("WATCHDOG_LIBPQ"))
		f.Missing = missing(symbols, f.Libpq)
		for _, name := range ownFunctions {
			if !slices.Contains(symbols, name) {
				f.Lacks = append(f.Lacks, name)
			}
		}
		return f
	}
	return f
}

// missing are the functions of libpq that a front does not have.
func missing(have []string, libpq string) (all []string) {
	if libpq == "" {
		return nil
	}
	want, err := exported(libpq)
	if err != nil {
		return nil
	}
	for _, name := range want {
		if !slices.Contains(have, name) && !strings.HasPrefix(name, "_") {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// exported are the functions of a shared library.
func exported(path string) (functions []string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return nil, err
	}
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			functions = append(functions, s.Name)
		}
	}
	return functions, nil
}

// libpq is the one that the dynamic loader finds without LD_LIBRARY_PATH, or that was named.
func libpq(named string) string {
	if named != "" {
		return named
	}
	patterns := []string{"/usr/local/lib/" + libpqName, "/lib/*-linux-gnu*/" + libpqName, "/usr/lib/*-linux-gnu*/" + libpqName,
		"/lib64/" + libpqName, "/usr/lib64/" + libpqName, "/usr/lib/" + libpqName, "/usr/pgsql-*/lib/" + libpqName}
	for _, p := range patterns {
		if found, _ := filepath.Glob(p); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	return ""
}
