package libpqtest

// That the layers of the front stand on each other, by what its objects need.

import (
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An object is what one C file was compiled to: the names that it defines for others, and those that
// it needs.
type object struct{ defines, needs []string }

func readObject(t *testing.T, path string) (o object) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	symbols, err := file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		switch {
		case elf.ST_BIND(s.Info) == elf.STB_LOCAL:
		case s.Section == elf.SHN_UNDEF:
			o.needs = append(o.needs, s.Name)
		default:
			o.defines = append(o.defines, s.Name)
		}
	}
	return o
}

// arrows gives, for each object, the others that it needs, with a name that it needs of each.
func arrows(objects map[string]object) map[string]map[string]string {
	owner := map[string]string{}
	for path, o := range objects {
		for _, name := range o.defines {
			owner[name] = path
		}
	}
	all := map[string]map[string]string{}
	for path, o := range objects {
		all[path] = map[string]string{}
		for _, name := range o.needs {
			if to, ok := owner[name]; ok {
				all[path][to] = name
			}
		}
	}
	return all
}

// upward finds what a layer needs of a higher one.
func upward(layers []string, objects map[string]object) (all []string) {
	height := func(path string) int { return slices.Index(layers, filepath.Dir(path)) }
	for from, needs := range arrows(objects) {
		for to, name := range needs {
			if height(from) < height(to) {
				all = append(all, fmt.Sprintf("%s needs %s of %s", from, name, to))
			}
		}
	}
	slices.Sort(all)
	return all
}

// knot gives the objects that need each other in a circle, and what leads to one.
func knot(objects map[string]object) []string {
	left := arrows(objects)
	for {
		before := len(left)
		for path, needs := range left {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(needs)), func(to string) bool { return left[to] != nil }) {
				delete(left, path)
			}
		}
		if len(left) == before {
			return slices.Sorted(maps.Keys(left))
		}
	}
}

// Nothing of a lower layer needs what a higher one has (an exported function of libpq is the front's
// own, in handle/), and no files need each other in a circle: each can be read with those below it.
func TestLayers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "libpq/front.mk"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^FRONT_LAYERS := (.*)$`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("libpq/front.mk names no layers")
	}
	layers := strings.Fields(m[1])
	objects := map[string]object{}
	for _, layer := range layers {
		sources, _ := filepath.Glob(filepath.Join(root, "libpq", layer, "*.c"))
		generated, _ := filepath.Glob(filepath.Join(root, "build/libpq", layer, "*.c"))
		if len(sources) == 0 {
			t.Errorf("libpq/%s has no C file", layer)
		}
		for _, source := range append(sources, generated...) {
			path := filepath.Join(layer, strings.TrimSuffix(filepath.Base(source), ".c")+".o")
			objects[path] = readObject(t, filepath.Join(root, "build/libpq", path))
		}
	}
	for _, problem := range upward(layers, objects) {
		t.Error(problem)
	}
	if k := knot(objects); len(k) > 0 {
		t.Errorf("these need each other in a circle, or lead to one: %s", k)
	}
}

func TestLayersBite(t *testing.T) {
	objects := map[string]object{
		"wire/a.o":   {defines: []string{"a"}, needs: []string{"b", "recv"}},
		"wire/b.o":   {defines: []string{"b"}, needs: []string{"recv"}},
		"handle/c.o": {defines: []string{"PQfinish"}, needs: []string{"a", "b"}},
	}
	layers := []string{"wire", "handle"}
	if u, k := upward(layers, objects), knot(objects); u != nil || k != nil {
		t.Errorf("found %q and %q where nothing is wrong", u, k)
	}
	objects["wire/b.o"] = object{defines: []string{"b"}, needs: []string{"a"}}
	if k := knot(objects); !slices.Equal(k, []string{"handle/c.o", "wire/a.o", "wire/b.o"}) {
		t.Errorf("a circle of two: found %q", k)
	}
	objects["wire/b.o"] = object{defines: []string{"b"}, needs: []string{"PQfinish"}}
	if u := upward(layers, objects); !slices.Equal(u, []string{"wire/b.o needs PQfinish of handle/c.o"}) {
		t.Errorf("a call upwards: found %q", u)
	}
}
