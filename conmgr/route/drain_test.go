package route

import (
	"strings"
	"testing"
)

// An instance that is draining is offered to nobody, and is what it was for everything else.
func TestDraining(t *testing.T) {
	for _, x := range []struct {
		history  string
		want     string // as in TestChoose
		primary  int    // in use
		draining string // the first one
	}{
		{"p1d s1", "1 - 1 - 1 1", 0, "server"},
		{"p1h s1", "1 - 1 - 1 1", 0, "here"},
		{"p1dh s1", "1 - 1 - 1 1", 0, "server,here"},
		{"p1d", "- - - - - -", 0, "server"},
		{"s1h p1", "1 1 - 1 - 1", 1, "here"},
		{"s1d s1 p1", "1 2 1 2 1 1", 2, "server"},
		{"s1d s1h p1d", "- - - - - -", 2, "server"},
		{"s1? p1", "1 1 - 1 - 1", 1, ""},
		{"s1h? p1", "1 1 - 1 - 1", 1, "here"},
		{"s1d,s1d? p1", "1 1 - 1 - 1", 1, ""}, // it has told nothing

		// It holds its timeline, and whoever is older or was promoted beside it stays refused.
		{"p1d p2", "1 1 - 1 - 1", 1, "server"},
		{"p1 p2d", "- - - - - -", 1, ""},
		{"p1d s1 p2,p1d p2 p2d", "- - - - - -", 2, "server"},
		{"p1d s1,p1d! s1,p1d- p2", "1 1 - 1 - 1", 1, "server"}, // a planned switchover
		{"p1d s1,p1d- p2,s2 p2", "0 1 0 1 0 0", 1, ""},
	} {
		_, tab := after(Rules{StandbyGrace: -1}, strings.Split(x.history, ",")...)
		if got := choices(tab, nil); got != x.want {
			t.Errorf("%s: got %v, want %s", x.history, got, x.want)
		}
		if tab.Primary != x.primary || tab.Draining(0) != x.draining {
			t.Errorf("%s: the primary is %d, the first is drained by %q", x.history, tab.Primary, tab.Draining(0))
		}
	}
	_, tab := after(Rules{}, "p1d s1", "p1d s1")
	if v := tab.Verdicts[0]; v.Why != "" || v.Void {
		t.Errorf("it is judged for it: %+v", v)
	}
	if used := tab.UsedFor(0); used != nil {
		t.Errorf("used for %v", used)
	}
}
