package pgtest

// A private copy of the PostgreSQL installation, so that tests can install the extension without
// touching the system's. PostgreSQL finds its directories relative to its executable, symbolic
// links resolved: executables are copied, all else is linked.

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// installation is a relocated PostgreSQL and a freshly made cluster to copy, shared by the clusters
// of this process.
type installation struct {
	from     source
	users    int    // under shared's lock
	dir      string // holds all of it; removed with the last user
	bin      string
	pkglib   string
	share    string
	version  string
	template string // data directory as initdb leaves it
	watchdog bool   // the extension is installed
}

// Executables that are copied: those that find their siblings and files relative to themselves.
var executables = []string{"postgres", "initdb", "pg_ctl", "pg_basebackup", "pg_rewind", "pg_dump", "pg_dumpall",
	"pg_isready", "psql", "pg_upgrade",
	"pg_controldata", "pg_receivewal", "pg_recvlogical", "pg_resetwal", "pg_config"}

// source is where an installation comes from: the PostgreSQL of a pg_config, and the project as it
// was built for it. Empty: PG_CONFIG, and this tree.
type source struct {
	pgConfig, root string
}

var shared = struct {
	sync.Mutex
	of map[source]*installation
}{of: map[source]*installation{}}

// acquire returns the installation, made by the first caller. The watchdog's files are added when
// first wanted.
func acquire(from source, watchdog bool) (*installation, error) {
	shared.Lock()
	defer shared.Unlock()
	inst := shared.of[from]
	if inst == nil {
		made, err := install(from)
		if err != nil {
			return nil, err
		}
		inst = made
		shared.of[from] = inst
	}
	if watchdog && !inst.watchdog {
		if err := inst.addWatchdog(); err != nil {
			if inst.users == 0 {
				os.RemoveAll(inst.dir)
				delete(shared.of, from)
			}
			return nil, err
		}
	}
	inst.users++
	return inst, nil
}

func (inst *installation) release() error {
	shared.Lock()
	defer shared.Unlock()
	inst.users--
	if inst.users > 0 {
		return nil
	}
	delete(shared.of, inst.from)
	return os.RemoveAll(inst.dir)
}

func install(from source) (made *installation, err error) {
	config := cmp.Or(from.pgConfig, os.Getenv("PG_CONFIG"), "pg_config")
	out, err := exec.Command(config, "--bindir", "--pkglibdir", "--sharedir", "--includedir", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w; \"make deps\" installs PostgreSQL, PG_CONFIG names another installation's pg_config", config, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 5 {
		return nil, fmt.Errorf("%s: unexpected answer %q", config, out)
	}
	bindir, pkglibdir, sharedir, includedir := lines[0], lines[1], lines[2], lines[3]
	inst := &installation{from: from, version: lines[4]}
	if inst.dir, err = testkit.TempDir("wdpginst"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(inst.dir)
		}
	}()
	inst.bin, inst.pkglib, inst.share = filepath.Join(inst.dir, bindir), filepath.Join(inst.dir, pkglibdir),
		filepath.Join(inst.dir, sharedir)
	extensions := filepath.Join(inst.share, "extension")
	for _, dir := range []string{inst.bin, inst.pkglib, extensions} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	headers := filepath.Join(inst.dir, includedir)
	if err := os.MkdirAll(filepath.Dir(headers), 0o755); err != nil {
		return nil, err
	}
	if err := os.Symlink(includedir, headers); err != nil {
		return nil, err
	}
	for _, name := range executables {
		if err := copyFile(filepath.Join(bindir, name), filepath.Join(inst.bin, name), 0o755); err != nil &&
			!os.IsNotExist(err) {
			return nil, err
		}
	}
	for from, to := range map[string]string{bindir: inst.bin, pkglibdir: inst.pkglib, sharedir: inst.share,
		filepath.Join(sharedir, "extension"): extensions} {
		if err := linkAll(from, to); err != nil {
			return nil, err
		}
	}
	if err := inst.relocateConfig(bindir, pkglibdir, sharedir); err != nil {
		return nil, err
	}
	return inst, inst.initdb()
}

// relocateConfig sees to it that the copy of pg_config answers with the copy's directories. That of
// Debian's 13 has its own in it; the server and all other programs find theirs.
func (inst *installation) relocateConfig(bindir, pkglibdir, sharedir string) error {
	config := filepath.Join(inst.bin, "pg_config")
	ask := func() (string, error) {
		out, err := exec.Command(config, "--bindir", "--pkglibdir", "--sharedir").Output()
		return string(out), err
	}
	want := inst.bin + "\n" + inst.pkglib + "\n" + inst.share + "\n"
	said, err := ask()
	if err == nil && said == bindir+"\n"+pkglibdir+"\n"+sharedir+"\n" {
		script := "#!/bin/sh\n'" + filepath.Join(bindir, "pg_config") + "' \"$@\" | sed"
		for _, dir := range []string{pkglibdir, bindir, sharedir} {
			script += fmt.Sprintf(" -e 's|^%s|%s|'", dir, filepath.Join(inst.dir, dir))
		}
		if err = os.Remove(config); err == nil {
			err = os.WriteFile(config, []byte(script+"\n"), 0o755)
		}
		if err == nil {
			said, err = ask()
		}
	}
	if err != nil || said != want {
		return fmt.Errorf("the PostgreSQL in %s cannot be relocated: the copy of pg_config in %s says %q, want %q: %v",
			bindir, inst.bin, said, want, err)
	}
	return nil
}

// major is the major version, 0 if that is not known.
func major(version string) (n int) {
	_, after, _ := strings.Cut(version, " ") // PostgreSQL 19beta1 (Debian ...)
	fmt.Sscanf(after, "%d", &n)
	return n
}

// templateVariable names a directory in which processes that run side by side share one template
// (internal/suite): initdb is most of what a short test computes.
const templateVariable = "WATCHDOG_TEST_TEMPLATE"

// initdb makes the template, or takes the one that is shared. Small WAL segments: the copies are
// quicker.
func (inst *installation) initdb() error {
	shared := os.Getenv(templateVariable)
	if shared == "" || inst.from != (source{}) {
		return inst.initdbIn(filepath.Join(inst.dir, "template"))
	}
	lock, err := os.OpenFile(filepath.Join(shared, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	owned := filepath.Join(shared, "template")
	made := filepath.Join(shared, "made")
	if _, err := os.Stat(made); err == nil {
		inst.template = filepath.Join(owned, "data")
		return nil
	}
	os.RemoveAll(owned) // of a process that was killed meanwhile
	if err := inst.initdbIn(owned); err != nil {
		return err
	}
	return os.WriteFile(made, nil, 0o600)
}

func (inst *installation) initdbIn(owned string) error {
	if err := makeOwned(owned); err != nil {
		return err
	}
	inst.template = filepath.Join(owned, "data")
	return inst.initdbAt(inst.template, owned)
}

// initdbAt makes a data directory, which has a system identifier of its own. It has no checksums,
// which 18 would make: pg_upgrade wants the same on both sides.
func (inst *installation) initdbAt(data, workDir string) error {
	cmd := exec.Command(filepath.Join(inst.bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync",
		"-E", "UTF8", "--locale=C", "--wal-segsize=1")
	if major(inst.version) >= 18 {
		cmd.Args = append(cmd.Args, "--no-data-checksums")
	}
	cmd.Env, cmd.Dir = environment(), workDir
	asServerUser(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// addWatchdog installs what make has built, by copies: the server's user may not be able to read
// the source tree, and a build during the tests must not change what a running server has open.
func (inst *installation) addWatchdog() error {
	root := inst.from.root
	if root == "" {
		var err error
		if root, err = sourceRoot(); err != nil {
			return err
		}
	}
	libraries, _ := filepath.Glob(filepath.Join(root, "build", "watchdog*.so"))
	scripts, _ := filepath.Glob(filepath.Join(root, "extension", "watchdog--*.sql"))
	if _, err := os.Stat(filepath.Join(root, "build", "watchdog.so")); err != nil {
		return fmt.Errorf("the extension is not built: %w; run \"make\" first", err)
	}
	scripts = append(scripts, filepath.Join(root, "extension", "watchdog.control"))
	for dir, files := range map[string][]string{inst.pkglib: libraries,
		filepath.Join(inst.share, "extension"): scripts} {
		for _, f := range files {
			to := filepath.Join(dir, filepath.Base(f))
			os.Remove(to) // a link to one that is installed in the system
			if err := copyFile(f, to, 0o755); err != nil {
				return err
			}
		}
	}
	inst.watchdog = true
	return nil
}

// sourceRoot finds the project: the directory of its go.mod, at or above the working directory or
// the executable.
func sourceRoot() (string, error) {
	starts := []string{}
	if d, err := os.Getwd(); err == nil {
		starts = append(starts, d)
	}
	if e, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(e))
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && bytes.HasPrefix(mod, []byte("module github.com/pgwatchdog/watchdog\n")) {
				return dir, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("the project's go.mod is in no parent directory of %s", strings.Join(starts, " or "))
}

// linkAll makes a symbolic link in to for each entry of from that is not there yet.
func linkAll(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil &&
			!os.IsExist(err) {
			return err
		}
	}
	return nil
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// Install makes the private installation, with the watchdog extension, for whoever runs servers of
// his own from it, and returns its directory of executables. It is there until the end of the test.
func Install(t testkit.TB) (bin string) {
	t.Helper()
	inst, err := acquire(source{}, true)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := inst.release(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return inst.bin
}

// BinDir is the directory of the cluster's executables.
func (c *Cluster) BinDir() string { return c.inst.bin }
