package main

// The list of functions against every libpq that Debian has, by the lists in testdata; and the lists
// of names that C and the list must agree on.

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const list = "../functions.list"

func kept(t *testing.T) (all []*library) {
	t.Helper()
	paths, err := filepath.Glob("testdata/libpq5_*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		lib, err := readLibrary(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, lib)
	}
	return all
}

func functionsOf(t *testing.T, path string) []function {
	t.Helper()
	functions, err := readList(path)
	if err != nil {
		t.Fatal(err)
	}
	return functions
}

// Every function of every release is classed, and since says which releases have it.
func TestEveryReleaseIsClassed(t *testing.T) {
	functions := functionsOf(t, list)
	var majors []int
	for _, lib := range kept(t) {
		majors = append(majors, lib.major)
		if err := compare(functions, lib, list); err != nil {
			t.Error(err)
		}
		if err := sinceOf(functions, lib, list); err != nil {
			t.Error(err)
		}
		if len(lib.exports) < 170 {
			t.Errorf("%s has only %d names", lib.name, len(lib.exports))
		}
		// a program that is not position-independent has a copy of the array, of this size
		if n := lib.exports["pgresStatus"] / 8; n == 0 || n > uint64(len(statusNames)) {
			t.Errorf("pgresStatus of %s has %d entries, of %d that are known", lib.name, n, len(statusNames))
		}
	}
	if slices.Sort(majors); !slices.Equal(majors, []int{13, 15, 17, 18, 19}) {
		t.Errorf("there are lists of %v", majors)
	}
}

// The check bites: a function that is not classed, one with the wrong version, and a library that is
// none are named.
func TestCheckBites(t *testing.T) {
	functions := functionsOf(t, list)
	for _, lib := range kept(t) {
		without := slices.DeleteFunc(slices.Clone(functions), func(f function) bool { return f.name == "PQgetResult" })
		if err := compare(without, lib, list); err == nil || !strings.Contains(err.Error(), "PQgetResult") {
			t.Errorf("%s, with PQgetResult in no class: %v", lib.name, err)
		}
		more := &library{"x", "x", lib.major, maps.Clone(lib.exports)}
		more.exports["PQservice"] = 0
		if err := compare(functions, more, list); err == nil || !strings.Contains(err.Error(), ": PQservice\n") {
			t.Errorf("%s with PQservice: %v", lib.name, err)
		}
		less := &library{"x", "x", lib.major, maps.Clone(lib.exports)}
		delete(less.exports, "PQfinish")
		if err := compare(functions, less, list); err == nil || !strings.Contains(err.Error(), "lacks PQfinish") {
			t.Errorf("%s without PQfinish: %v", lib.name, err)
		}
		for name, since := range map[string]int{"PQsetTraceFlags": 15, "PQclosePrepared": 16, "PQgetThreadLock": 18} {
			wrong := slices.Clone(functions)
			i := slices.IndexFunc(wrong, func(f function) bool { return f.name == name })
			right := wrong[i].since
			wrong[i].since = since
			concerned := lib.major >= min(right, since) && lib.major < max(right, since)
			if err := sinceOf(wrong, lib, list); (err != nil) != concerned || err != nil && !strings.Contains(err.Error(), name) {
				t.Errorf("%s, with %s since %d: %v", lib.name, name, since, err)
			}
		}
	}
}

// A list that was kept says what the library says.
func TestKeptList(t *testing.T) {
	lib := &library{exports: map[string]uint64{"PQb": 0, "PQa": 0, "pgresStatus": 96}}
	path := filepath.Join(t.TempDir(), "libpq5_17.txt")
	write(path, lib.list("libpq5 17.6-0+deb13u1 (trixie)"))
	got, err := readLibrary(path)
	if err != nil || got.major != 17 || got.name != "libpq5 17.6-0+deb13u1" || !maps.Equal(got.exports, lib.exports) {
		t.Errorf("%+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"# libpq5 17.6\nPQa x\n":   "expected a name, or a name and a size: PQa x",
		"# libpq5 17.6\nPQa 1 2\n": "expected a name, or a name and a size: PQa 1 2",
		"PQa\n":                    "could not read the installed libpq",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readLibrary(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
