package rules

// The rules of docs/design.md, "who may import whom". Reads every source file of the module,
// whatever its build tags.

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pgwatchdog/watchdog/"

// source is one Go file.
type source struct {
	path    string // from the module's root, with slashes
	dir     string
	test    bool
	imports []string // of the module: the folder; others as they are
	file    *ast.File
	fset    *token.FileSet
}

func (s *source) in(folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return s.dir == f || strings.HasPrefix(s.dir, f+"/") })
}

// tree is what the rules look at.
type tree struct {
	root string
	gos  []*source
	cs   []string // C files and headers
}

// treeOf is a tree of these files, by path.
func treeOf(t *testing.T, files map[string]string) *tree {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func load(root string) (*tree, error) {
	t := &tree{root: root}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || rel == "build" || rel == "tmp_check") {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".c", ".h":
			t.cs = append(t.cs, rel)
		case ".go":
			s := &source{path: rel, dir: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(rel, "_test.go"), fset: token.NewFileSet()}
			if s.file, err = parser.ParseFile(s.fset, path, nil, parser.SkipObjectResolution|parser.ParseComments); err != nil {
				return err
			}
			for _, i := range s.file.Imports {
				name, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					return err
				}
				s.imports = append(s.imports, strings.TrimPrefix(name, module))
			}
			t.gos = append(t.gos, s)
		}
		return nil
	})
	return t, err
}

// importRule: the files of folders may not import what forbids names. The tests of a package may
// use the test helpers.
type importRule struct {
	folders []string
	forbids forbids
	reason  string
}

// local tells whether an import is of this module; load has cut the module's name off.
func local(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return slices.Contains([]string{"cm", "doctor", "heartbeat", "terminator", "control", "conmgr", "worker", "driver", "cgo", "internal", "cmd", "test", "bench", "demo", "libpq"}, first)
}

func under(imported string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return imported == f || strings.HasPrefix(imported, f+"/") })
}

// installed are the packages of internal/ that are no test helpers: what several programs and the
// Go client need.
var installed = []string{"internal/sockowner", "internal/pgwire", "internal/rawsys", "internal/keyfile", "internal/sockdiag",
	"internal/duration", "internal/cmdline", "internal/cells"}

func anyOf(folders ...string) forbids {
	return func(_ *source, imported string) bool { return under(imported, folders...) }
}

// leaf: nothing of the module; its tests may use internal/.
func leaf(s *source, imported string) bool {
	return local(imported) && !under(imported, s.dir) && !(s.test && under(imported, "internal"))
}

// leafBut: nothing else of the module, either.
func leafBut(folders ...string) forbids {
	return func(s *source, imported string) bool { return leaf(s, imported) && !under(imported, folders...) }
}

var importRules = []importRule{
	{[]string{"heartbeat"}, func(s *source, i string) bool {
		return local(i) && i != "heartbeat" && !(s.test && under(i, "internal")) &&
			!(s.in("heartbeat/watchdog") && i == "terminator") &&
			!(!s.in("heartbeat/proof") && i == "heartbeat/proof")
	},
		"both ends of the protocol share it, and neither needs the other: whatever it imported would be linked into both; only the watchdog's end asks whose sessions end"},
	{[]string{"heartbeat"}, forbids(func(_ *source, i string) bool {
		return i == "net" || under(i, "os", "golang.org/x/sys", "syscall", "log", "context", "math/rand")
	}).notInTests(),
		"the protocol is pure: it neither reads nor writes, so that its tests own time and bytes"},
	{[]string{"worker"}, anyOf("terminator").notInTests(), "the reactor moves bytes and clocks: it decides nothing, and asks for no decision"},
	{[]string{"conmgr", "control", "driver"}, anyOf("heartbeat/watchdog"), "it is the other end of the connection"},
	{[]string{"worker", "cgo", "terminator", "control", "driver", "conmgr"}, func(s *source, i string) bool {
		return i == "heartbeat/instance" && !s.in("conmgr/watch")
	}, "conmgr's end of a connection is run by conmgr/watch, which moves bytes and clocks, and by nobody else"},
	{[]string{"terminator"}, leaf, "whose sessions end is a pure policy that can be read and tested alone"},
	{[]string{"terminator"}, anyOf("net", "os", "golang.org/x/sys", "syscall", "log", "context").notInTests(),
		"whose sessions end must depend on nothing but the facts that it is given"},
	{installed, leafBut("cm", "internal/pgwire", "internal/sockdiag"), "the Go client, conmgr and the worker share it, and nothing else along with it"},
	{[]string{"cm"}, leaf, "daemon, tools and clients share it: whatever it imported would be linked into an application"},
	{[]string{"cm"}, anyOf("net", "os", "golang.org/x/sys", "syscall", "log", "context").notInTests(),
		"it has names, and does nothing"},
	{[]string{"driver", "control", "conmgr", "internal/pgwire", "internal/cmtest", "bench"}, forbids(func(s *source, i string) bool {
		return under(i, "github.com/jackc/pgproto3") && !s.in("internal/pgwire/backend")
	}).notInTests(),
		"its Frontend takes lengths from the peer at their word and can be made to panic, and no version mends that: internal/pgwire is the client's side, and its backend the server's"},
	{[]string{"heartbeat/proof"}, leaf, "cm_ctl makes keys by it, and knows nothing else of heartbeats; what it computes depends on nothing but its arguments"},
	{[]string{"control"}, leafBut("cm", "heartbeat/proof", "internal/pgwire", "internal/sockowner", "internal/cmdline", "internal/cells"), "cm_ctl must be able to judge and stop a conmgr of any version: it knows its directory and its console, not its code"},
	{[]string{"conmgr"}, anyOf("worker", "terminator"), "conmgr runs on client hosts and meets the server side over TCP only"},
	{[]string{"conmgr/route"}, func(s *source, i string) bool {
		return local(i) && i != "heartbeat" && i != "cm" && !(s.test && under(i, "internal"))
	},
		"who is offered is a pure decision: it can neither reach a socket nor a file, and needs no more than what instances say"},
	{[]string{"conmgr/route"}, forbids(func(_ *source, i string) bool {
		return i == "net" || under(i, "os", "golang.org/x/sys", "syscall", "log", "context")
	}).notInTests(),
		"who is offered must depend on nothing but the facts that it is given"},
	{[]string{"driver", "control", "worker", "cgo"}, anyOf("internal/pgwire/backend").notInTests(),
		"it is the server's side of the protocol, and brings pgproto3 along"},
	{[]string{"worker"}, anyOf("conmgr", "control", "driver"), "the worker lives inside PostgreSQL: nothing of the client side belongs there"},
	{[]string{"cgo"}, func(_ *source, i string) bool {
		return under(i, "conmgr", "control", "driver", "internal") && i != "internal/rawsys"
	}, "what the bridge imports is loaded into a process of PostgreSQL"},
	{[]string{"driver"}, anyOf("conmgr", "worker", "heartbeat", "terminator", "control").notInTests(),
		"applications link the driver: it speaks PostgreSQL's protocol to conmgr, and needs nothing of its code"},
	{[]string{"."}, anyOf("cgo"), "it is a C library's main package, of use to the watchdog worker alone"},
	{[]string{"."}, func(s *source, i string) bool {
		return i == "unsafe" && !s.in("cgo", "internal/rawsys") || i == "C" && !s.in("cgo") && !s.cOfFront()
	},
		"C memory is touched in cgo/ only, and Go's own behind its back in internal/rawsys/ only, where each can be reviewed as a whole"},
	{[]string{"heartbeat", "terminator", "worker", "cgo", "conmgr", "control", "doctor", "driver", "cmd"},
		func(s *source, i string) bool {
			return !s.test && under(i, "internal", "test", "bench", "demo") && !under(i, s.dir) && !under(i, installed...)
		},
		"test helpers are not part of what is installed"},
	{[]string{"heartbeat", "terminator", "worker", "cgo", "driver"}, func(s *source, i string) bool { return !s.test && under(i, "os/signal") },
		"signals belong to the program: PostgreSQL's worker, or the application"},
	{[]string{"heartbeat", "terminator", "worker", "cgo", "conmgr", "control", "doctor", "driver"}, func(s *source, i string) bool { return !s.test && i == "log" },
		"log lines have one way out: the host's ring in the worker, conmgr's own log, or an error to the caller"},
}

// cOfFront: a test of the libpq front that calls it from Go.
func (s *source) cOfFront() bool { return s.test && s.in("libpq") }

type forbids func(*source, string) bool

// notInTests restricts a rule to what is built.
func (f forbids) notInTests() func(*source, string) bool {
	return func(s *source, i string) bool { return !s.test && f(s, i) }
}

// breaches returns everything that breaks a rule, with the reason for the rule.
func (t *tree) breaches() (all []string, err error) {
	for _, s := range t.gos {
		for _, i := range s.imports {
			for _, r := range importRules {
				if (slices.Contains(r.folders, ".") || s.in(r.folders...)) && !s.in("driver/internal") && r.forbids(s, i) {
					all = append(all, fmt.Sprintf("%s imports %s: %s", s.path, i, r.reason))
				}
			}
		}
		all = append(all, s.calls()...)
	}
	for _, path := range t.cs {
		text, err := os.ReadFile(filepath.Join(t.root, path))
		if err != nil {
			return nil, err
		}
		all = append(all, includes(path, string(text))...)
	}
	for _, s := range t.gos {
		for _, c := range s.file.Comments { // cgo's preambles
			if s.in("cgo") {
				all = append(all, includes(s.path, c.Text())...)
			}
		}
	}
	return all, nil
}

// callRules: what a file of these folders may not use, by package and name. Names are matched from
// their beginning.
var callRules = []struct {
	folders []string
	pkg     string
	names   []string
	reason  string
}{
	{[]string{"heartbeat", "terminator", "worker", "cgo", "conmgr", "control", "driver"}, "os", []string{"Exit"},
		"only main functions end the process: cmd/ decides, libraries return errors"},
	{[]string{"heartbeat", "terminator", "worker", "cgo", "conmgr", "control", "driver"}, "log", []string{"Fatal", "Panic", "Print"},
		"libraries return errors"},
	{[]string{"heartbeat", "terminator", "worker", "cgo", "conmgr", "control", "driver"}, "os/signal", []string{"Notify"},
		"only main functions handle signals"},
	{[]string{"heartbeat", "terminator", "conmgr/route"}, "time", []string{"Now", "After", "Sleep", "New", "Tick", "Since", "Until"},
		"verdicts are pure: whoever asks for one says what time it is"},
	{[]string{"conmgr", "worker", "internal/simulate"}, module + "heartbeat",
		[]string{"NewMonitor", "Attempts", "NewPulse", "ResumePulse"},
		"what is heard, what is lost and what is tried next is decided in heartbeat/instance and heartbeat/watchdog, and nowhere beside them"},
	{[]string{"heartbeat", "terminator", "worker", "cgo", "conmgr", "control", "driver"}, "fmt", []string{"Print"},
		"libraries do not write to the standard output, which is somebody else's"},
	{[]string{"heartbeat", "worker", "cgo"}, module + "terminator", []string{"Silence", "Goodbye", "GivenUp", "Closed"},
		"by which rule sessions end is decided in terminator/: others hand a cause on, and name none"},
	{[]string{"heartbeat", "terminator", "worker", "cgo", "driver"}, "os", []string{"Stdout", "Stderr", "Stdin"},
		"these are PostgreSQL's, or the application's"},
}

// calls finds uses of forbidden functions, and go statements where they may not be.
func (s *source) calls() (all []string) {
	if s.test || s.in("driver/internal") {
		return nil
	}
	names := map[string]string{} // as used in this file: the package
	for _, i := range s.file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		name := path[strings.LastIndex(path, "/")+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = path
	}
	where := func(n ast.Node) string { return fmt.Sprintf("%s:%d", s.path, s.fset.Position(n.Pos()).Line) }
	inside := ""
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			inside = n.Name.Name
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			for _, r := range callRules {
				if s.in(r.folders...) && names[x.Name] == r.pkg && slices.ContainsFunc(r.names, func(p string) bool { return strings.HasPrefix(n.Sel.Name, p) }) {
					all = append(all, fmt.Sprintf("%s uses %s.%s: %s", where(n), r.pkg, n.Sel.Name, r.reason))
				}
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "print" || f.Name == "println") && s.in("heartbeat", "terminator", "worker", "cgo", "driver", "conmgr", "control") {
				all = append(all, fmt.Sprintf("%s uses %s: it writes to the standard error of somebody else", where(n), f.Name))
			}
		case *ast.GoStmt:
			guarded := s.in("cgo") && inside == "spawn" || s.path == "worker/faults_on.go"
			if s.in("worker", "cgo", "heartbeat", "terminator") && !guarded {
				all = append(all, where(n)+" starts a goroutine: a panic in one that nobody guards would reset every session of the server; use spawn")
			}
		}
		return true
	})
	return all
}

var include = regexp.MustCompile(`(?m)^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]`)

// Headers by where they come from.
var (
	serverHeader = regexp.MustCompile(`^(postgres\.h|postgres_fe\.h|c\.h|fmgr\.h|funcapi\.h|miscadmin\.h|pgstat\.h|port\.h|internal/.*|(server/|access/|catalog/|` +
		`commands/|common/|datatype/|executor/|libpq/|mb/|nodes/|parser/|port/|postmaster/|replication/|storage/|tcop/|utils/).*)$`)
	clientHeader  = regexp.MustCompile(`^(libpq-.*|pqexpbuffer\.h|postgresql/.*|(.*/)?libpq/.*\.h)$`)
	sessionHeader = regexp.MustCompile(`^libpq/(auth|libpq|libpq-be)\.h$`) // the server's own, in spite of the folder's name
)

// includes finds headers that a C file may not include.
func includes(path, text string) (all []string) {
	for _, m := range include.FindAllStringSubmatch(text, -1) {
		switch h := m[1]; {
		case strings.HasPrefix(path, "extension/") && clientHeader.MatchString(h) && !sessionHeader.MatchString(h):
			all = append(all, fmt.Sprintf("%s includes %s: a server process that loads libpq gets a second client library and its signals", path, h))
		case !strings.HasPrefix(path, "extension/") && !strings.HasPrefix(path, "test/module/") && serverHeader.MatchString(h):
			all = append(all, fmt.Sprintf("%s includes %s: server headers depend on the server's version and build, and belong to extension/ alone (and to test/module/, which tests load into a server)", path, h))
		case path == "extension/bridge.h" && serverHeader.MatchString(h):
			all = append(all, fmt.Sprintf("%s includes %s: it is compiled into the Go library too, which knows nothing of PostgreSQL", path, h))
		}
	}
	return append(all, frontIncludes(path, text)...)
}

func TestRules(t *testing.T) {
	tr, err := load("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"heartbeat", "heartbeat/instance", "heartbeat/watchdog", "terminator", "worker", "cgo", "conmgr", "control", "driver", "cmd/conmgr", "cmd/cm_ctl"} {
		if !slices.ContainsFunc(tr.gos, func(s *source) bool { return s.dir == dir }) {
			t.Errorf("no Go file was found in %s: the rules look at the wrong tree", dir)
		}
	}
	if !slices.Contains(tr.cs, "extension/bridge.h") {
		t.Error("extension/bridge.h was not found")
	}
	all, err := tr.breaches()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		t.Error(b)
	}
}

// TestRulesBite: each rule finds a file that breaks it, and none finds one that does not.
func TestRulesBite(t *testing.T) {
	imports := func(pkg string, paths ...string) string {
		text := "package " + pkg + "\n"
		for _, p := range paths {
			text += "import _ \"" + p + "\"\n"
		}
		return text
	}
	for _, c := range []struct{ path, text, want string }{
		{"heartbeat/a.go", imports("heartbeat", module+"terminator"), "heartbeat/a.go imports terminator"},
		{"heartbeat/a.go", imports("heartbeat", module+"heartbeat/watchdog"), "imports heartbeat/watchdog"},
		{"heartbeat/watchdog/a.go", imports("watchdog", "net/netip", module+"heartbeat", module+"terminator"), ""},
		{"heartbeat/watchdog/a.go", imports("watchdog", module+"worker"), "imports worker"},
		{"heartbeat/watchdog/a.go", imports("watchdog", "golang.org/x/sys/unix"), "the protocol is pure"},
		{"heartbeat/watchdog/a.go", imports("watchdog", "math/rand/v2"), "the protocol is pure"},
		{"heartbeat/a.go", "package heartbeat\nimport \"time\"\nvar t = time.Now()\n", "heartbeat/a.go:3 uses time.Now"},
		{"heartbeat/a.go", "package heartbeat\nimport \"time\"\nvar t = 3 * time.Second\n", ""},
		{"terminator/a.go", "package terminator\nimport \"time\"\nvar t = time.NewTimer(0)\n", "uses time.NewTimer"},
		{"heartbeat/watchdog/a.go", "package watchdog\nimport \"" + module + "terminator\"\nvar c = terminator.GivenUp\n", "name none"},
		{"heartbeat/watchdog/a.go", "package watchdog\nimport \"" + module + "terminator\"\nvar c = terminator.None\n", ""},
		{"heartbeat/watchdog/a_test.go", "package watchdog\nimport \"" + module + "terminator\"\nvar c = terminator.GivenUp\n", ""},
		{"conmgr/route/a.go", "package route\nimport \"time\"\nvar t = time.Since(time.Time{})\n", "uses time.Since"},
		{"conmgr/a.go", imports("conmgr", module+"heartbeat/watchdog"), "the other end"},
		{"conmgr/bind/a.go", imports("bind", module+"heartbeat/instance"), "by nobody else"},
		{"worker/a.go", imports("worker", module+"heartbeat/instance"), "by nobody else"},
		{"conmgr/watch/a.go", imports("watch", module+"heartbeat/instance"), ""},
		{"heartbeat/instance/a.go", imports("instance", module+"heartbeat", "net/netip"), ""},
		{"heartbeat/instance/a.go", imports("instance", module+"heartbeat/watchdog"), "imports heartbeat/watchdog"},
		{"heartbeat/instance/a.go", imports("instance", module+"terminator"), "imports terminator"},
		{"heartbeat/instance/a.go", imports("instance", module+"conmgr/netio"), "imports conmgr/netio"},
		{"heartbeat/instance/a.go", "package instance\nimport \"time\"\nvar t = time.Now()\n", "uses time.Now"},
		{"conmgr/watch/a.go", "package watch\nimport \"" + module + "heartbeat\"\nvar a heartbeat.Attempts\n",
			"a.go:3 uses " + module + "heartbeat.Attempts"},
		{"internal/simulate/a.go", "package simulate\nimport \"" + module + "heartbeat\"\nvar m = heartbeat.NewMonitor()\n",
			"decided in heartbeat/instance"},
		{"heartbeat/a.go", imports("heartbeat", "net"), "the protocol is pure"},
		{"heartbeat/a.go", imports("heartbeat", "time", "encoding/binary"), ""},
		{"heartbeat/a_test.go", imports("heartbeat", "os", module+"internal/leak"), ""},
		{"heartbeat/a_test.go", imports("heartbeat", module+"worker"), "imports worker"},
		{"terminator/a.go", imports("terminator", module+"heartbeat"), "imports heartbeat"},
		{"terminator/a.go", imports("terminator", "os"), "nothing but the facts"},
		{"control/a.go", imports("control", module+"conmgr"), "imports conmgr"},
		{"conmgr/a.go", imports("conmgr", module+"worker"), "over TCP only"},
		{"conmgr/a_test.go", imports("conmgr", module+"worker"), "over TCP only"},
		{"conmgr/a.go", imports("conmgr", module+"control", module+"heartbeat"), ""},
		{"worker/a.go", imports("worker", module+"conmgr"), "inside PostgreSQL"},
		{"worker/a.go", imports("worker", module+"heartbeat", module+"heartbeat/watchdog", "golang.org/x/sys/unix"), ""},
		{"worker/a.go", imports("worker", module+"terminator"), "it decides nothing"},
		{"worker/a_test.go", imports("worker", module+"terminator"), ""},
		{"driver/a.go", imports("driver", module+"heartbeat"), "applications link the driver"},
		{"driver/pqcm/a.go", imports("pqcm", module+"conmgr"), "applications link the driver"},
		{"cmd/conmgr/a.go", imports("main", module+"cgo"), "C library's main package"},
		{"cgo/a.go", imports("main", module+"internal/leak"), "imports internal/leak"},
		{"worker/a.go", imports("worker", module+"internal/leak"), "test helpers"},
		{"driver/a.go", imports("driver", module+"internal/cmtest/scripted"), "test helpers"},
		{"driver/a_test.go", imports("driver", module+"internal/cmtest/scripted"), ""},
		{"driver/internal/suite/a.go", imports("suite", module+"internal/cmtest/scripted"), ""},
		{"control/a.go", imports("control", module+"internal/cmtest/hostile"), "test helpers"},
		{"conmgr/a.go", imports("conmgr", module+"internal/sockowner"), ""},
		{"control/a.go", imports("control", module+"internal/pgwire", module+"cm"), ""},
		{"cm/a.go", imports("cm", module+"heartbeat"), "cm/a.go imports heartbeat"},
		{"cm/a.go", imports("cm", "os"), "does nothing"},
		{"cm/a.go", imports("cm", "fmt", "strings"), ""},
		{"cgo/a.go", imports("main", module+"internal/rawsys"), ""},
		{"internal/rawsys/a.go", imports("rawsys", module+"heartbeat"), "imports heartbeat"},
		{"driver/a.go", imports("driver", "github.com/jackc/pgproto3/v2"), "can be made to panic"},
		{"conmgr/a.go", imports("conmgr", "github.com/jackc/pgproto3/v2"), "can be made to panic"},
		{"internal/pgwire/a.go", imports("pgwire", "github.com/jackc/pgproto3/v2"), "can be made to panic"},
		{"internal/pgwire/backend/a.go", imports("backend", "github.com/jackc/pgproto3/v2"), ""},
		{"driver/a.go", imports("driver", module+"internal/pgwire/backend"), "the server's side"},
		{"conmgr/relay/a.go", imports("relay", module+"conmgr/console"), "the relay cannot reach a session"},
		{"conmgr/relay/a.go", imports("relay", module+"conmgr"), "the relay cannot reach a session"},
		{"conmgr/relay/a.go", imports("relay", module+"conmgr/bind", module+"conmgr/listen"), ""},
		{"conmgr/console/a.go", imports("console", module+"conmgr/relay"), "cannot reach a relayed connection"},
		{"conmgr/listen/a.go", imports("listen", module+"conmgr/console"), "does not know what becomes of them"},
		{"conmgr/bind/a.go", imports("bind", module+"conmgr/netio"), "without a socket"},
		{"conmgr/bind/a_test.go", imports("bind", module+"conmgr/netio"), ""},
		{"conmgr/bind/a.go", imports("bind", module+"conmgr/cmlog"), "imports conmgr/cmlog"},
		{"conmgr/watch/a.go", imports("watch", module+"conmgr/cmlog"), "imports conmgr/cmlog"},
		{"conmgr/event/a.go", imports("event", module+"conmgr/bind"), "does not know who listens"},
		{"conmgr/status/a.go", imports("status", module+"conmgr/bind"), "and of nothing else"},
		{"conmgr/status/a.go", imports("status", module+"conmgr/event", module+"control"), ""},
		{"conmgr/sockdestroy/a.go", imports("sockdestroy", module+"conmgr/relay"), "no other way in"},
		{"conmgr/watch/a.go", imports("watch", module+"conmgr/console"), "reaches no application"},
		{"conmgr/watch/a.go", imports("watch", module+"conmgr/bind", module+"heartbeat"), ""},
		{"conmgr/conf/a.go", imports("conf", module+"conmgr/bind"), "without a daemon"},
		{"conmgr/cmlog/a.go", imports("cmlog", module+"conmgr/conf"), "the log knows nobody"},
		{"conmgr/group/a.go", imports("group", module+"conmgr/cmlog"), "starts its goroutines"},
		{"conmgr/clock/a.go", imports("clock", module+"conmgr/group"), "for the time"},
		{"conmgr/netio/a.go", imports("netio", module+"conmgr/cmlog"), "decides nothing"},
		{"conmgr/route/a.go", imports("route", module+"conmgr/bind"), "pure decision"},
		{"conmgr/a.go", imports("conmgr", module+"conmgr/relay", module+"conmgr/console"), ""},
		{"driver/pgxcm/a.go", imports("pgxcm", "github.com/jackc/pgx/v5/pgproto3"), ""},
		{"internal/sockowner/a.go", imports("sockowner", module+"conmgr"), "nothing else along with it"},
		{"worker/a_test.go", imports("worker", module+"internal/leak"), ""},
		{"worker/a.go", imports("worker", "unsafe"), "reviewed as a whole"},
		{"worker/a_test.go", imports("worker", "unsafe"), "reviewed as a whole"},
		{"conmgr/a.go", imports("conmgr", "unsafe"), "reviewed as a whole"},
		{"internal/rawsys/a.go", imports("rawsys", "unsafe"), ""},
		{"driver/a.go", "package driver\nimport \"C\"\n", "reviewed as a whole"},
		{"cgo/a.go", "package main\nimport \"C\"\nimport \"unsafe\"\n", ""},
		{"libpq/test/a_test.go", "package test\nimport \"C\"\n", ""},
		{"libpq/gen/a.go", "package main\nimport \"C\"\n", "reviewed as a whole"},
		{"worker/a.go", imports("worker", "os/signal"), "signals belong"},
		{"conmgr/a.go", imports("conmgr", "log"), "one way out"},
		{"conmgr/a.go", "package conmgr\nimport \"os\"\nfunc f() { os.Exit(1) }\n", "conmgr/a.go:3 uses os.Exit"},
		{"conmgr/a.go", "package conmgr\nimport x \"os\"\nfunc f() { x.Exit(1) }\n", "uses os.Exit"},
		{"cmd/conmgr/a.go", "package main\nimport \"os\"\nfunc main() { os.Exit(1) }\n", ""},
		{"control/a_test.go", "package control\nimport \"os\"\nfunc f() { os.Exit(1) }\n", ""},
		{"control/a.go", "package control\nimport \"os/signal\"\nfunc f() { signal.NotifyContext(nil) }\n", "uses os/signal.NotifyContext"},
		{"driver/a.go", "package driver\nimport \"fmt\"\nfunc f() { fmt.Println() }\n", "uses fmt.Println"},
		{"driver/a.go", "package driver\nimport \"fmt\"\nfunc f() { _ = fmt.Sprint() }\n", ""},
		{"worker/a.go", "package worker\nimport \"os\"\nvar w = os.Stderr\n", "uses os.Stderr"},
		{"worker/a.go", "package worker\nfunc f() { println() }\n", "uses println"},
		{"worker/a.go", "package worker\nfunc f() { go f() }\n", "worker/a.go:2 starts a goroutine"},
		{"cgo/a.go", "package main\nfunc f() { go f() }\n", "starts a goroutine"},
		{"cgo/a.go", "package main\nfunc spawn() { go f() }\n", ""},
		{"conmgr/a.go", "package conmgr\nfunc f() { go f() }\n", ""},
		{"extension/a.c", "#include \"postgres.h\"\n#include \"storage/ipc.h\"\n", ""},
		{"extension/a.c", "#include \"postgres.h\"\n#include <libpq-fe.h>\n", "includes libpq-fe.h"},
		{"extension/a.c", "  # include \"../libpq/front.h\"\n", "includes ../libpq/front.h"},
		{"extension/bridge.h", "#include \"utils/timestamp.h\"\n", "knows nothing of PostgreSQL"},
		{"libpq/handle/a.c", "#include <postgres.h>\n", "belong to extension/ alone"},
		{"libpq/wire/a.c", "#include \"postgres.h\"\n", "belong to extension/ alone"},
		{"libpq/wire/a.h", "#include <server/c.h>\n", "belong to extension/ alone"},
		{"libpq/wire/a.c", "#include \"utils/elog.h\"\n", "belong to extension/ alone"},
		{"test/module/a.c", "#include <postgres.h>\n", ""},
		{"demo/a.c", "#include <postgres.h>\n", "belong to extension/ alone"},
		{"cgo/a.go", "package main\n\n/*\n#include \"postgres.h\"\n*/\nimport \"C\"\n", "cgo/a.go includes postgres.h"},
		{"cgo/a.go", "package main\n\n/*\n#include \"bridge.h\"\n*/\nimport \"C\"\n", ""},
	} {
		tr := treeOf(t, map[string]string{c.path: c.text})
		all, err := tr.breaches()
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(all, "\n")
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%s:\n%sfound %q, want %q", c.path, c.text, text, c.want)
		}
	}
}
