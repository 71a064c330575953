package main

// The tests that -only or -except names. Any goroutine; blocks on a mutex only.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// wanted is what is to run; nil: everything.
type wanted struct {
	mu     sync.Mutex
	names  []string
	except bool // all but these
	found  map[string]bool
}

func newWanted(only, except string) (*wanted, error) {
	switch {
	case only != "" && except != "":
		return nil, errors.New("-only and -except cannot be given both")
	case only == "" && except == "":
		return nil, nil
	}
	return &wanted{names: strings.Split(only+except, ","), except: except != "", found: map[string]bool{}}, nil
}

// among leaves of a program's tests those that are wanted.
func (w *wanted) among(names []string) (left []string) {
	if w == nil {
		return names
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		named := slices.Contains(w.names, name)
		if named {
			w.found[name] = true
		}
		if named != w.except {
			left = append(left, name)
		}
	}
	return left
}

// missing tells what was named and is in no program: a test that has another name by now would be
// left out, or run, without a word.
func (w *wanted) missing() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var missing []string
	for _, name := range w.names {
		if !w.found[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no package has the tests %s", strings.Join(missing, ", "))
	}
	return nil
}
