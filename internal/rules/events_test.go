package rules

// The rule of events: each type of conmgr/event is emitted at one place, so that whoever hangs on
// the hub hears of a change once, and whoever reads the code finds where it happens. Reads source
// files only.

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

const eventRoom = "conmgr/event"

// eventTypes are the types of the room that say what they tell: those with a method Text.
func (t *tree) eventTypes() (names []string) {
	for _, s := range t.gos {
		if s.dir != eventRoom || s.test {
			continue
		}
		for _, d := range s.file.Decls {
			f, is := d.(*ast.FuncDecl)
			if !is || f.Recv == nil || f.Name.Name != "Text" {
				continue
			}
			if name, is := f.Recv.List[0].Type.(*ast.Ident); is {
				names = append(names, name.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// emissions returns events that are made at no place, or at several.
func (t *tree) emissions() (all []string) {
	places := map[string][]string{}
	for _, s := range t.gos {
		if s.test || s.in("internal") || !slices.Contains(s.imports, eventRoom) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			c, is := n.(*ast.CompositeLit)
			if !is {
				return true
			}
			if x, is := c.Type.(*ast.SelectorExpr); is {
				if pkg, is := x.X.(*ast.Ident); is && pkg.Name == "event" {
					places[x.Sel.Name] = append(places[x.Sel.Name],
						fmt.Sprintf("%s:%d", s.path, s.fset.Position(c.Pos()).Line))
				}
			}
			return true
		})
	}
	for _, name := range t.eventTypes() {
		switch p := places[name]; {
		case len(p) == 0:
			all = append(all, "event."+name+" is emitted nowhere")
		case len(p) > 1:
			all = append(all, fmt.Sprintf("event.%s is emitted at %s: an event has one place, where the state changes",
				name, strings.Join(p, " and ")))
		}
	}
	return all
}

func TestEventsAreEmittedOnce(t *testing.T) {
	tr, err := load("../..")
	if err != nil {
		t.Fatal(err)
	}
	if names := tr.eventTypes(); !slices.Contains(names, "Lost") || !slices.Contains(names, "PresenceChanged") {
		t.Errorf("the events that were found: %v", names)
	}
	for _, b := range tr.emissions() {
		t.Error(b)
	}
}

func TestEventRuleBites(t *testing.T) {
	const room = "package event\ntype Lost struct{}\nfunc (Lost) Text() string { return \"\" }\ntype Instance struct{}\n"
	const one = "package watch\nimport \"" + module + "conmgr/event\"\nvar a = event.Lost{}\nvar i, j = event.Instance{}, event.Instance{}\n"
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"conmgr/watch/a.go": one}, ""},
		{map[string]string{"conmgr/watch/a.go": one, "conmgr/watch/a_test.go": one, "internal/x/a.go": one}, ""},
		{map[string]string{"conmgr/watch/a.go": one + "var b = &event.Lost{}\n"}, "conmgr/watch/a.go:3 and conmgr/watch/a.go:5"},
		{map[string]string{"conmgr/watch/a.go": one, "conmgr/b.go": one}, "event.Lost is emitted at conmgr/"},
		{map[string]string{"conmgr/watch/a_test.go": one}, "event.Lost is emitted nowhere"},
	} {
		c.files["conmgr/event/event.go"] = room
		tr := treeOf(t, c.files)
		if got := strings.Join(tr.emissions(), "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%v: found %q, want %q", c.files, got, c.want)
		}
	}
}
