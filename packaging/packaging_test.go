// Package packaging_test holds what packages are made of to the sources: versions, PGXN's META.json,
// and the files of Debian's packages. Runs git and scripts/version in directories of its own, and
// blocks on these only.
package packaging_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestVersion: what scripts/version says in a clone with and without tags, in an archive that git has
// made of each, and without git.
func TestVersion(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"scripts/version", "packaging/version", "extension/watchdog.control", ".gitattributes"} {
		copyFile(t, filepath.Join("..", f), filepath.Join(dir, f))
	}
	at := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x@example.com",
			"GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x@example.com", "GIT_COMMITTER_DATE=2026-11-27T17:00:00Z",
			"GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	want := func(what, got, pattern string) {
		t.Helper()
		if !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
			t.Errorf("%s: %q, not %s", what, got, pattern)
		}
	}
	say := func(what, version, asPackage string) {
		t.Helper()
		want(what, at(dir, "scripts/version"), version)
		want(what, at(dir, "scripts/version", "--package"), asPackage)
	}
	archived := func(what, version string) {
		t.Helper()
		archive := t.TempDir()
		at(dir, "sh", "-c", "git archive HEAD | tar -x -C "+archive)
		want("an archive of "+what, at(archive, "scripts/version"), version)
		want("the date of an archive", at(archive, "scripts/version", "--date"), "1795798800")
	}
	next := regexp.QuoteMeta(defaultVersion(t))
	unreleased := next + `-dev-202611271700-g[0-9a-f]{7,}`
	say("no git", next+`-dev`, next+`~dev`)
	at(dir, "git", "init", "-q")
	at(dir, "git", "add", ".")
	at(dir, "git", "commit", "-q", "-m", "first")
	say("no tag", unreleased, next+`~dev\+202611271700\.g[0-9a-f]{7,}`)
	archived("no tag", unreleased)
	at(dir, "git", "tag", "v1.2.0-rc1")
	say("a candidate", `1\.2\.0-rc1`, `1\.2\.0~rc1`)
	at(dir, "git", "commit", "-q", "--allow-empty", "-m", "second")
	at(dir, "git", "tag", "another")
	say("after a candidate", `1\.2\.0-rc1-1-g[0-9a-f]{7,}`, `1\.2\.0~rc1\+1\.g[0-9a-f]{7,}`)
	at(dir, "git", "tag", "v1.2.0")
	say("a release", `1\.2\.0`, `1\.2\.0`)
	archived("a release", `1\.2\.0`)
	at(dir, "git", "commit", "-q", "--allow-empty", "-m", "third")
	say("after a release", `1\.2\.0-1-g[0-9a-f]{7,}`, `1\.2\.0\+1\.g[0-9a-f]{7,}`)
	archived("after a release", `1\.2\.0-1-g[0-9a-f]{7,}`)
	at(dir, "sh", "-c", "echo >> extension/watchdog.control")
	say("changed", `1\.2\.0-1-g[0-9a-f]{7,}-dirty`, `1\.2\.0\+1\.g[0-9a-f]{7,}\+dirty`)
	t.Setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
	say("root, in a user's clone", `1\.2\.0-1-g[0-9a-f]{7,}-dirty`, `1\.2\.0\+1\.g[0-9a-f]{7,}\+dirty`)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, info.Mode()); err != nil {
		t.Fatal(err)
	}
}

// TestMeta: what PGXN's specification (version 1.0.0) demands of META.json, and that it speaks of
// this extension. Its own validator is a Perl module that no Debian has.
func TestMeta(t *testing.T) {
	text := read(t, "../META.json")
	var m struct {
		Name, Abstract, Version, Maintainer, License string
		Status                                       string `json:"release_status"`
		Provides                                     map[string]struct{ File, Docfile, Version, Abstract string }
		Spec                                         struct{ Version, URL string } `json:"meta-spec"`
		Prereqs                                      map[string]map[string]map[string]string
		Tags                                         []string
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	semantic := regexp.MustCompile(`^\d+\.\d+\.\d+(-[a-zA-Z][-.0-9A-Za-z]*)?$`)
	extension := m.Provides["watchdog"]
	for what, ok := range map[string]bool{
		"name":            regexp.MustCompile(`^[^\s/\\]{2,}$`).MatchString(m.Name),
		"abstract":        m.Abstract != "" && extension.Abstract != "",
		"version":         semantic.MatchString(m.Version) && semantic.MatchString(extension.Version),
		"maintainer":      m.Maintainer != "",
		"license":         m.License == "postgresql",
		"release_status":  slices.Contains([]string{"stable", "testing", "unstable"}, m.Status),
		"meta-spec":       m.Spec.Version == "1.0.0" && m.Spec.URL == "https://pgxn.org/meta/spec.txt",
		"prereqs":         m.Prereqs["runtime"]["requires"]["PostgreSQL"] == "13.0.0",
		"tags":            len(m.Tags) > 0 && !slices.ContainsFunc(m.Tags, func(s string) bool { return s == "" || len(s) > 255 }),
		"default_version": strings.HasPrefix(extension.Version, defaultVersion(t)+"."),
	} {
		if !ok {
			t.Errorf("META.json: %s is wrong", what)
		}
	}
	for _, f := range []string{extension.File, extension.Docfile} {
		if _, err := os.Stat(filepath.Join("..", f)); f == "" || err != nil {
			t.Errorf("META.json names %q: %v", f, err)
		}
	}
}

// TestStatedVersions: the version that a file states, where nothing writes it in, is that of the
// control file.
func TestStatedVersions(t *testing.T) {
	for file, pattern := range map[string]string{
		"watchdog.spec":             `watchdog_version ([0-9.]+)~dev\}`,
		"../docs/man/conmgr.1":      `"watchdog ([0-9.]+)"`,
		"../docs/man/cm_ctl.1":      `"watchdog ([0-9.]+)"`,
		"../docs/man/conmgr.conf.5": `"watchdog ([0-9.]+)"`,
	} {
		m := regexp.MustCompile(pattern).FindStringSubmatch(read(t, file))
		if m == nil || m[1] != defaultVersion(t) {
			t.Errorf("%s states %v, the control file %s", file, m, defaultVersion(t))
		}
	}
}

// TestCopyright: debian/copyright says whose each Go module is that a source package has in vendor/.
func TestCopyright(t *testing.T) {
	var said []string
	for _, line := range regexp.MustCompile(`(?m)^Files: (.*)$`).FindAllStringSubmatch(read(t, "../debian/copyright"), -1) {
		for _, pattern := range strings.Fields(line[1]) {
			said = append(said, strings.TrimSuffix(pattern, "*"))
		}
	}
	out, err := exec.Command("go", "list", "-deps", "-test", "-f", "{{with .Module}}{{.Path}}{{end}}", "../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	modules = slices.DeleteFunc(slices.Compact(modules), func(m string) bool { return m == "github.com/pgwatchdog/watchdog" })
	if len(modules) < 4 {
		t.Fatalf("modules: %v", modules)
	}
	for _, m := range modules {
		if !slices.ContainsFunc(said, func(s string) bool { return s != "" && strings.HasPrefix("vendor/"+m+"/", s) }) {
			t.Errorf("debian/copyright does not say whose %s is", m)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// defaultVersion is that of the control file.
func defaultVersion(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`default_version = '([^']+)'`).FindStringSubmatch(read(t, "../extension/watchdog.control"))
	if m == nil {
		t.Fatal("the control file has no default_version")
	}
	return m[1]
}
