package conf

// What is set, for SHOW CONFIG, and what a reload changes. Blocks on the file system only.

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// Context is how a change of a parameter takes effect.
type Context uint8

// The contexts. A row of the table without one is InPlace.
const (
	InPlace    Context = iota // at a reload: the process goes on as a new one, and keeps its ports and who is relayed
	Live                      // at a reload: the next one who looks at it sees it
	Postmaster                // at a restart only: applications know conmgr by it
)

// String is the context's name in pg_settings.
func (c Context) String() string {
	if c == Postmaster {
		return "postmaster"
	}
	return "sighup"
}

// Setting is a row of SHOW CONFIG.
type Setting struct {
	Name, Value, Default, Source string
	Context                      Context
	Pending                      bool // the file has another value, which takes effect at a restart

	key   key
	given given
}

// Current is the configuration that is in force. Whoever looks at it twice may see two.
type Current struct{ p atomic.Pointer[Config] }

// NewCurrent begins with one.
func NewCurrent(c *Config) *Current {
	cur := &Current{}
	cur.p.Store(c)
	return cur
}

// Load is what is in force now.
func (c *Current) Load() *Config { return c.p.Load() }

// Store puts another one in force. Only the daemon does.
func (c *Current) Store(next *Config) { c.p.Store(next) }

// Change is a parameter whose value in the file is not the one that is in force.
type Change struct {
	Name, Value string // as it is now in the file
	Context     Context
}

// Reload reads conmgr.conf again, for a conmgr that runs with a configuration, and tells what has
// changed in it. next is all that the file says; nil: there is an error among the diagnostics.
func Reload(running *Config) (next *Config, changes []Change, diags []Diagnostic) {
	if next, diags = Load(running.Dir); next == nil {
		return nil, nil, diags
	}
	names := map[string]bool{}
	for _, c := range []*Config{running, next} {
		for _, s := range c.Settings {
			names[s.Name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, is := running.Setting(name), next.Setting(name)
		switch {
		case was == nil && is.given.line == 0, is == nil && was.given.line == 0: // of an instance that comes, or goes
		case is == nil:
			changes = append(changes, Change{Name: name, Context: InPlace})
		case was == nil, !was.same(is), name == KeyParam && !sameKey(running, next):
			context := is.Context
			if name == KeyParam && running.IsOther(next.Key) {
				context = Postmaster
			}
			changes = append(changes, Change{Name: name, Value: is.Value, Context: context})
		}
	}
	return next, changes, diags
}

func (s *Setting) same(o *Setting) bool { return reflect.DeepEqual(s.given.typed, o.given.typed) }

// IsOther tells whether servers take a conmgr with a key for another one: what this one has proved
// belongs to the name of its key.
func (c *Config) IsOther(key *proof.Key) bool {
	return c.Key != nil && (key == nil || key.ID != c.Key.ID)
}

func sameKey(a, b *Config) bool {
	return (a.Key == nil) == (b.Key == nil) && (a.Key == nil || a.Key.Same(b.Key))
}

// With is a configuration in which the changes that can be made at once are made, and the other ones
// are pending.
func (c *Config) With(next *Config, changes []Change) *Config {
	merged := *c
	merged.Settings = slices.Clone(c.Settings)
	for i := range merged.Settings {
		merged.Settings[i].Pending = false
	}
	for _, ch := range changes {
		i := slices.IndexFunc(merged.Settings, func(s Setting) bool { return s.Name == ch.Name })
		switch {
		case i < 0:
		case ch.Context == Live:
			merged.Settings[i] = *next.Setting(ch.Name)
			assign(findParam(ch.Name).target(&written{Config: &merged}), merged.Settings[i].given.value)
		default:
			merged.Settings[i].Pending = true
		}
	}
	return &merged
}

// Kept are values of parameters that stay as they were when the process goes on in place; nil: the
// default.
type Kept map[string]*string

// Keep is what a reload does not change.
func (c *Config) Keep(changes []Change) Kept {
	kept := Kept{}
	for _, ch := range changes {
		if ch.Context != Postmaster {
			continue
		}
		s := c.Setting(ch.Name)
		if kept[ch.Name] = nil; s.Value != s.Default {
			kept[ch.Name] = &s.Value
		}
	}
	return kept
}

// LoadKept is Load, for a process that goes on with what its predecessor has kept, if anything.
func LoadKept(dir string, kept Kept) (*Config, []Diagnostic) {
	file := filepath.Join(dir, cm.ConfigFile)
	data, err := readFile(file)
	if err != nil {
		return nil, []Diagnostic{{File: file, Text: err.Error()}}
	}
	p := newParser(file)
	p.read(file, data, nil)
	for name, value := range kept {
		k := key{name, -1}
		delete(p.set, k)
		if value == nil {
			continue
		}
		v, err := findParam(name).parse(*value)
		if err != nil {
			return nil, []Diagnostic{{File: file, Text: fmt.Sprintf("parameter %q: %v", name, err)}}
		}
		p.set[k] = given{v, place{file: file, line: 0}}
	}
	c, diags := p.finish()
	c, diags = loadKey(c, unknownUsers(c, diags))
	for i := 0; c != nil && i < len(c.Settings); i++ {
		_, c.Settings[i].Pending = kept[c.Settings[i].Name]
	}
	return c, diags
}

// Setting is that of a name; nil: there is none.
func (c *Config) Setting(name string) *Setting {
	if i := slices.IndexFunc(c.Settings, func(s Setting) bool { return s.Name == name }); i >= 0 {
		return &c.Settings[i]
	}
	return nil
}

// At is a diagnostic of where a parameter is set, else of the whole file.
func (c *Config) At(name string) Diagnostic {
	if s := c.Setting(name); s != nil && s.given.line > 0 {
		return Diagnostic{File: s.given.file, Line: s.given.line}
	}
	return Diagnostic{File: filepath.Join(c.Dir, cm.ConfigFile)}
}

// Opens is the port that a parameter opens beside conmgr's own, 0: it opens none.
func (c *Config) Opens(name string) int {
	s := c.Setting(name)
	if s == nil || s.key.name != "http_port" && s.key.name != "health_port" && !strings.HasPrefix(s.key.name, "relay_port_") {
		return 0
	}
	port, _ := s.given.typed.(int)
	return port
}

// Ports are all that a conmgr with this configuration listens on.
func (c *Config) Ports() (all []int) {
	all = append(all, c.Port)
	for i := range c.Settings {
		if port := c.Opens(c.Settings[i].Name); port != 0 {
			all = append(all, port)
		}
	}
	return all
}

// settings lists every parameter for SHOW CONFIG; of the numbered ones, those of each instance.
func (p *configParser) settings(c *Config) {
	add := func(prm *Param, k key, name string) {
		s := Setting{Name: name, Value: prm.Default, Default: prm.Default, Source: "default", Context: prm.Context, key: k,
			given: given{value: p.value(prm, k.number)}}
		if g, ok := p.set[k]; ok {
			s.Value, s.Source, s.given = g.text, g.place.String(), g
		}
		c.Settings = append(c.Settings, s)
	}
	for i := range Params {
		if prm := &Params[i]; !prm.Numbered {
			add(prm, key{prm.Name, -1}, prm.Name)
		}
	}
	for _, in := range c.Instances {
		for i := range Params {
			if prm := &Params[i]; prm.Numbered {
				add(prm, key{prm.Name, in.Number}, prm.Name+strconv.Itoa(in.Number))
			}
		}
	}
}

// NotChangeable is what is said of a parameter that is pending, as a PostgreSQL server does.
func NotChangeable(name string) string {
	return fmt.Sprintf("parameter %q cannot be changed without restarting conmgr", name)
}
