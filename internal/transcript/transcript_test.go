package transcript

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestPlay: what came of an event is replaced by what comes of it now, and nothing else is.
func TestPlay(t *testing.T) {
	echo := func(at time.Duration, event []string) ([]string, error) {
		if event[0] == "bad" {
			return nil, errors.New("as asked")
		}
		return event[1:], nil
	}
	got, err := Play("# what it is\n0ms say a b # why\n    x\n\n1s none\n    y\n", echo)
	if want := "# what it is\n0ms say a b # why\n    a\n    b\n\n1s none\n"; err != nil || got != want {
		t.Errorf("%v, got:\n%s", err, got)
	}
	for script, want := range map[string]string{"0ms bad": "as asked", "2s a\n1s b": "line 2", "soon a": "line 1",
		"1s": "line 1"} {
		if _, err := Play(script, echo); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", script, err)
		}
	}
}

func TestDifference(t *testing.T) {
	for _, c := range []struct {
		a, b string
		line int
	}{{"a\nb\n", "a\nb\n", 0}, {"a\nb\n", "a\nc\n", 2}, {"a\n", "a\nb\n", 2}, {"a\nb\n", "a\n", 2}} {
		if line, _, _ := difference(c.a, c.b); line != c.line {
			t.Errorf("%q, %q: line %d", c.a, c.b, line)
		}
	}
}
