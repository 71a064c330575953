// Command gen writes the generated part of the libpq front from libpq/functions.list: functions.h, the
// table of the real library's functions, base/table.c, its contents, handle/forward.c, every
// forwarder, and cm.h, the names in conmgr's answers.
// It is run by libpq/front.mk at build time and stops the build when the installed libpq exports
// something that the list does not class. With -check it only compares, any number of libraries.
//
//	go run ./libpq/gen functions.list /path/to/libpq.so.5 outdir
//	go run ./libpq/gen -check functions.list /path/to/libpq.so.5 ...
package main

import (
	"bufio"
	"bytes"
	"debug/elf"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// function is a line of the list.
type function struct {
	class, ret, name, params string
	without                  string   // what it gives where the real library does not have it
	args                     []string // names of the parameters, in order
	since                    int      // major version
}

// What the oldest supported libpq has, no libpq lacks.
const oldest = 13

var prototype = regexp.MustCompile(`^(.*?[\s*])([A-Za-z_][A-Za-z0-9_]*)\((.*)\)$`)

var classes = regexp.MustCompile(`^(pass|conn|io|result|own|data)(=[-A-Z_a-z0-9]+)?$`)

func main() {
	check := flag.Bool("check", false, "only compare the list with libraries")
	flag.Parse()
	if flag.NArg() != 3 && !(*check && flag.NArg() >= 2) {
		fail("usage: gen functions.list libpq.so.5 outdir\n       gen -check functions.list libpq.so.5 ...")
	}
	functions, err := readList(flag.Arg(0))
	if err != nil {
		fail("%v", err)
	}
	if *check {
		for _, path := range flag.Args()[1:] {
			compare(functions, path)
		}
		return
	}
	exported := compare(functions, flag.Arg(1))
	write(filepath.Join(flag.Arg(2), "cm.h"), names())
	write(filepath.Join(flag.Arg(2), "functions.h"), header(functions))
	write(filepath.Join(flag.Arg(2), "base/table.c"), table(functions))
	write(filepath.Join(flag.Arg(2), "handle/forward.c"), forwarders(functions, exported))
}

// compare ends the program if the library exports something that is not in the list, or lacks what
// every libpq has.
func compare(functions []function, path string) map[string]uint64 {
	exported, err := exports(path)
	if err != nil {
		fail("%v", err)
	}
	var unknown, missing []string
	listed := map[string]bool{}
	for _, f := range functions {
		listed[f.name] = true
		if _, ok := exported[f.name]; !ok && f.since <= oldest {
			missing = append(missing, f.name)
		}
	}
	for name := range exported {
		if !listed[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	if len(unknown) > 0 {
		fail("%s exports functions that %s does not class: %s\nAdd a line for each: the front must know which take a PGconn",
			path, flag.Arg(0), strings.Join(unknown, ", "))
	}
	if len(missing) > 0 {
		fail("%s lacks %s: it is no libpq of PostgreSQL %d or later", path, strings.Join(missing, ", "), oldest)
	}
	return exported
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "libpq/gen: "+format+"\n", args...)
	os.Exit(1)
}

func write(path string, text []byte) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		fail("%v", err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		fail("%v", err)
	}
}

// exports gives the names that the library defines for others, with the size of each.
func exports(path string) (map[string]uint64, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("could not read the installed libpq: %w", err)
	}
	defer file.Close()
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
		case elf.STT_FUNC, elf.STT_OBJECT:
			names[s.Name] = s.Size
		}
	}
	return names, nil
}

func readList(path string) ([]function, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var list []function
	seen := map[string]int{}
	scanner := bufio.NewScanner(file)
	for number := 1; scanner.Scan(); number++ {
		text := strings.TrimSpace(scanner.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		fields := strings.Fields(text)
		if len(fields) < 3 || !classes.MatchString(fields[0]) {
			return nil, fmt.Errorf("%s:%d: expected: class since prototype", path, number)
		}
		f := function{}
		f.class, f.without, _ = strings.Cut(fields[0], "=")
		if f.since, err = strconv.Atoi(fields[1]); err != nil {
			return nil, fmt.Errorf("%s:%d: not a version: %s", path, number, fields[1])
		}
		if f.without == "" {
			f.without = "0"
		}
		declaration := strings.Join(fields[2:], " ")
		if f.class == "data" {
			f.name = declaration
		} else {
			m := prototype.FindStringSubmatch(declaration)
			if m == nil {
				return nil, fmt.Errorf("%s:%d: not a prototype: %s", path, number, declaration)
			}
			f.ret, f.name, f.params = strings.TrimSpace(m[1]), m[2], m[3]
			if f.params != "void" {
				for _, p := range strings.Split(f.params, ",") {
					p = strings.TrimSpace(p)
					f.args = append(f.args, p[strings.LastIndexAny(p, " *")+1:])
				}
			}
		}
		if other, ok := seen[f.name]; ok {
			return nil, fmt.Errorf("%s:%d: %s is in line %d already", path, number, f.name, other)
		}
		seen[f.name] = number
		list = append(list, f)
	}
	return list, scanner.Err()
}

const warning = "/* Generated by libpq/gen from libpq/functions.list: do not edit. */\n"

func header(list []function) []byte {
	var b bytes.Buffer
	b.WriteString(warning + "#ifndef FUNCTIONS_H\n#define FUNCTIONS_H\n\n#include <stdarg.h>\n#include <stdbool.h>\n\n" +
		"/* The functions of the real libpq, found by name when the front is loaded; for real.h. */\n" +
		"typedef struct RealLibpq\n{\n")
	for _, f := range list {
		if f.class != "data" {
			fmt.Fprintf(&b, "\t%s (*%s)(%s);\n", f.ret, f.name, f.params)
		}
	}
	b.WriteString("} RealLibpq;\n\n#endif\n")
	return b.Bytes()
}

// table writes the functions of the real library, and what a slot holds until that is loaded, and for
// good where it has no such function.
func table(list []function) []byte {
	var b, slots bytes.Buffer
	b.WriteString(warning + "#include \"base/real.h\"\n\n#include <errno.h>\n\n")
	for _, f := range list {
		if f.class != "data" {
			missing(&b, f)
			fmt.Fprintf(&slots, " \\\n\t.%s = missing_%s,", f.name, f.name)
		}
	}
	fmt.Fprintf(&b, "\n#define MISSING%s\n\nconst RealLibpq real_missing = {MISSING};\nRealLibpq real = {MISSING};\n", &slots)
	b.WriteString("\nconst RealName real_names[] = {\n")
	for _, f := range list {
		if f.class != "data" {
			fmt.Fprintf(&b, "\t{\"%s\", offsetof(RealLibpq, %s)},\n", f.name, f.name)
		}
	}
	b.WriteString("\t{NULL, 0}\n};\n")
	return b.Bytes()
}

func forwarders(list []function, exported map[string]uint64) []byte {
	var b bytes.Buffer
	b.WriteString(warning + "#include \"handle/handle.h\"\n\n")
	for _, f := range list {
		if f.class == "data" {
			variable(&b, f, exported)
		} else if f.class != "own" {
			forwarder(&b, f)
		}
	}
	return b.Bytes()
}

// missing writes what a function does that the real library does not have.
func missing(b *bytes.Buffer, f function) {
	fmt.Fprintf(b, "static %s missing_%s(%s)\n{\n", f.ret, f.name, f.params)
	for _, a := range f.args {
		if a != "..." {
			fmt.Fprintf(b, "\t(void) %s;\n", a)
		}
	}
	b.WriteString("\terrno = ENOSYS;\n")
	if f.ret != "void" {
		fmt.Fprintf(b, "\treturn (%s) %s;\n", f.ret, f.without)
	}
	b.WriteString("}\n")
}

func forwarder(b *bytes.Buffer, f function) {
	give, none := "return ", "return"
	if f.ret == "void" {
		give = ""
	} else {
		none = fmt.Sprintf("return (%s) %s", f.ret, f.without)
	}
	call := func(conn string) string {
		args := append([]string(nil), f.args...)
		for i, a := range args {
			if a == "conn" {
				args[i] = conn
			}
		}
		return fmt.Sprintf("real.%s(%s)", f.name, strings.Join(args, ", "))
	}
	lacks := ""
	if f.since > oldest && f.class != "pass" {
		lacks = fmt.Sprintf("\tif (real.%s == real_missing.%s)\n\t{\n\t\tfront_lacks(conn, \"%s\");\n\t\t%s;\n\t}\n",
			f.name, f.name, f.name, none)
	}
	fmt.Fprintf(b, "EXPORT %s %s(%s)\n{\n", f.ret, f.name, f.params)
	switch f.class {
	case "pass":
		fmt.Fprintf(b, "\t%s%s;\n", give, call("conn"))
	case "conn":
		fmt.Fprintf(b, "%s\t%s%s;\n", lacks, give, call("(PGconn *) sql_of(conn)"))
	default:
		after := "front_after(f)"
		if f.class == "result" {
			after = "front_after_result(f, r)"
		}
		fmt.Fprintf(b, "\tFront *f = front_of(conn);\n\t%s r;\n\n%s\tif (!f)\n\t\treturn %s;\n\tfront_before(f);\n"+
			"\tr = %s;\n\t%s;\n\treturn r;\n", f.ret, lacks, call("conn"), call("f->c.sql"), after)
	}
	b.WriteString("}\n")
}

// variable writes pgresStatus. A program that is not position-independent holds its own copy, made
// before any constructor runs, and the loader complains if that is smaller than the symbol: the
// symbol has the size that it has in the library of the build. The array is as long as it is in the
// newest libpq, for all others.
func variable(b *bytes.Buffer, f function, exported map[string]uint64) {
	size := exported[f.name]
	if size/8 > uint64(len(statusNames)) {
		fail("%s of the installed libpq has %d entries, libpq/gen knows %d", f.name, size/8, len(statusNames))
	}
	fmt.Fprintf(b, "char *const front_%s[%d] __attribute__((used)) = {\n", f.name, len(statusNames))
	for _, name := range statusNames {
		fmt.Fprintf(b, "\t\"%s\",\n", name)
	}
	fmt.Fprintf(b, "};\n__asm__(\".globl %[1]s\\n.type %[1]s, @object\\n.size %[1]s, %[2]d\\n.set %[1]s, front_%[1]s\");\n",
		f.name, size)
}

// The entries of pgresStatus: ExecStatusType in order, only ever appended to.
var statusNames = []string{
	"PGRES_EMPTY_QUERY", "PGRES_COMMAND_OK", "PGRES_TUPLES_OK", "PGRES_COPY_OUT", "PGRES_COPY_IN", "PGRES_BAD_RESPONSE",
	"PGRES_NONFATAL_ERROR", "PGRES_FATAL_ERROR", "PGRES_COPY_BOTH", "PGRES_SINGLE_TUPLE", "PGRES_PIPELINE_SYNC",
	"PGRES_PIPELINE_ABORTED", "PGRES_TUPLES_CHUNK",
}
