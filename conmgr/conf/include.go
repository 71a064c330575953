package conf

// The file, and those that it includes: include, include_if_exists and include_dir, as
// postgresql.conf has them. Blocks on the file system only.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/internal/keyfile"
)

const (
	maxConfigSize = 1 << 20 // of a file
	maxFiles      = 1000    // in all
	maxNesting    = 10      // as postgresql.conf has it
)

// place is where something was read; line 0 is the whole file.
type place struct {
	file  string
	line  int
	order int // of the lines of all files
}

func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return p.file + ":" + strconv.Itoa(p.line)
}

// seenFrom names it in a message about another place.
func (p place) seenFrom(o place) string {
	switch {
	case p.line == 0:
		return "by default"
	case p.file == o.file:
		return "on line " + strconv.Itoa(p.line)
	}
	return "in " + p.String()
}

// later is the one that was read last.
func later(a, b place) place {
	if b.order > a.order {
		return b
	}
	return a
}

// readFile does not wait for the writer of a FIFO.
func readFile(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("could not open the configuration file: %w", rootCause(err))
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && !st.Mode().IsRegular() {
		return nil, errors.New("could not read the configuration file: it is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err != nil {
		return nil, fmt.Errorf("could not read the configuration file: %w", rootCause(err))
	}
	if len(data) > maxConfigSize {
		return nil, fmt.Errorf("the configuration file is larger than %d bytes", maxConfigSize)
	}
	return data, nil
}

// rootCause is the operating system's error alone, where there is one.
func rootCause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// read takes in the content of a file. within are the files that include it, the outermost first.
func (p *configParser) read(file string, data []byte, within []string) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		p.badHost = true
		p.errorf(place{file: file}, "Save it as UTF-8.", "the configuration file is UTF-16 text")
		return
	}
	within = append(slices.Clone(within), file)
	for i, s := range splitLines(data) {
		p.lines++
		at := place{file, i + 1, p.lines}
		if p.errors >= maxDiagnostics {
			if !p.full {
				p.errorf(at, "", "too many errors: the rest of the file is not read")
			}
			p.full = true
			return
		}
		l, err := parseLine(s)
		switch {
		case err != nil:
			p.errorf(at, lineHint(s), "%s", err)
			p.badHost = p.badHost || namesHost(l.name)
		case l.name == "":
		case isInclude(l.name):
			p.include(at, strings.ToLower(l.name), l.value, within)
		case !p.setting(at, l):
			p.badHost = p.badHost || namesHost(l.name)
		}
	}
}

func isInclude(name string) bool {
	return slices.Contains([]string{"include", "include_if_exists", "include_dir"}, strings.ToLower(name))
}

// folder is the directory of a file, of a symbolic link the one where it leads: conmgr@NAME's conmgr.conf
// is a link to the one in /etc, beside which the other files are.
func folder(file string) string {
	if st, err := os.Lstat(file); err == nil && st.Mode()&fs.ModeSymlink != 0 {
		if real, err := filepath.EvalSymlinks(file); err == nil {
			file = real
		}
	}
	return filepath.Dir(file)
}

// include takes in what one line includes. A path that is not absolute begins at the directory of the
// file with that line.
func (p *configParser) include(at place, how, path string, within []string) {
	bad := func(format string, args ...any) {
		p.badHost = true // who knows what stands there
		p.errorf(at, "", format, args...)
	}
	if strings.Trim(path, " \t") == "" {
		what := "file"
		if how == "include_dir" {
			what = "directory"
		}
		bad("%s names no configuration %s", how, what)
		return
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(folder(at.file), path)
	}
	if how != "include_dir" {
		p.includeFile(path, how == "include_if_exists", within, bad)
		return
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		bad("could not open configuration directory \"%s\": %s", path, rootCause(err))
		return
	}
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		if !strings.HasSuffix(e.Name(), ".conf") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if st, err := os.Stat(name); err == nil && st.IsDir() {
			continue
		}
		p.includeFile(name, false, within, bad)
	}
}

func (p *configParser) includeFile(file string, mayMiss bool, within []string, bad func(string, ...any)) {
	switch {
	case len(within) > maxNesting:
		bad("could not open configuration file \"%s\": maximum nesting depth exceeded (%d)", file, maxNesting)
		return
	case slices.Contains(within, file):
		bad("configuration file recursion in \"%s\"", file)
		return
	case p.files >= maxFiles:
		bad("could not open configuration file \"%s\": more than %d files are included", file, maxFiles)
		return
	}
	p.files++
	data, err := readFile(file)
	switch {
	case err == nil:
		p.read(file, data, within)
	case mayMiss && errors.Is(err, fs.ErrNotExist):
	default:
		bad("\"%s\": %s", file, err)
	}
}

// ---- the key of this host ----

// KeyParam is the parameter that names the file.
const KeyParam = "heartbeat_key_file"

// ReadKey reads the key of a file, which has no other one.
func ReadKey(path string) (*proof.Key, error) {
	text, err := keyfile.Read(path, "the user who runs conmgr", proof.MaxFile)
	if err != nil {
		return nil, err
	}
	keys, err := proof.ParseFile(path, text)
	if err != nil {
		return nil, err
	}
	k, err := keys.Only()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// loadKey adds the key to a config.
func loadKey(c *Config, diags []Diagnostic) (*Config, []Diagnostic) {
	if c == nil || c.KeyFile == "" {
		return c, diags
	}
	var err error
	if c.Key, err = ReadKey(c.KeyFile); err != nil {
		at := c.Setting(KeyParam).given.place
		return nil, append(diags, Diagnostic{File: at.file, Line: at.line, Text: KeyParam + ": " + err.Error(),
			Hint: "It holds the line that cm_ctl genkey has printed for this host."})
	}
	return c, diags
}
