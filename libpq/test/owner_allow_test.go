package libpqtest

// The ways to allow a Connection Manager of another user: PGCMUSER, its Unix-domain socket, and the
// user conmgr.

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// believed tells whether psql follows an answer that leads to the primary.
func believed(t *testing.T, env []string, conninfo string) (bool, string) {
	t.Helper()
	out, err := program(t, append(byPath(), env...), "psql", "-X", "-w", "-At", "-d", conninfo, "-c",
		"select 'here'").CombinedOutput()
	return err == nil && strings.TrimSpace(string(out)) == "here", string(out)
}

func TestPGCMUSER(t *testing.T) {
	ports := map[int]string{}
	for _, uid := range []uint32{0, daemon, unnamed, 65534} {
		ports[int(uid)] = newImpostor(t, uid, "-port", primary.port).port
	}
	for _, c := range []struct {
		uid  int
		list string
		want bool
	}{
		{0, "", true}, {0, "daemon", true}, {daemon, "", false}, {daemon, "daemon", true}, {daemon, "1", true},
		{daemon, "bin, daemon ,nosuchuser", true},
		{daemon, "nosuchuser,2,bin", false}, {daemon, "*", true}, {daemon, "bin,*", true}, {daemon, "daemonx", false},
		{daemon, "daemo", false}, {daemon, "01", true},
		{daemon, "4294967297", false}, {daemon, "18446744073709551617", false}, {daemon, "**", false},
		{daemon, ",,", false},
		{unnamed, "4711", true}, {unnamed, "471", false}, {unnamed, "", false},
		{65534, "", false}, {65534, "nobody", false}, {65534, "65534", false}, {65534, "*", true},
	} {
		ok, out := believed(t, []string{"PGCMUSER=" + c.list}, dsn(ports[c.uid], ""))
		if ok != c.want {
			t.Errorf("user %d, PGCMUSER=%s: believed %v\n%s", c.uid, c.list, ok, out)
		}
		if !ok && !strings.Contains(out, "is not trusted to be the Connection Manager") {
			t.Errorf("user %d, PGCMUSER=%s: %s", c.uid, c.list, out)
		}
	}
	_, out := believed(t, nil, dsn(ports[unnamed], ""))
	wantAll(t, out, "belongs to user ID 4711, who is not trusted")
	_, out = believed(t, nil, dsn(ports[65534], ""))
	wantAll(t, out, "belongs to user ID 65534, which may be anybody's")
}

// A program's own user is trusted, and the user conmgr, where there is one.
func TestOwnUserAndConmgr(t *testing.T) {
	as := func(uid uint32, env ...string) (bool, string) {
		i := newImpostor(t, unnamed, "-port", primary.port)
		cmd := program(t, append(byPath(), env...), "psql", "-X", "-w", "-At", "-d", dsn(i.port, ""), "-c",
			"select 'here'")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		return err == nil, string(out)
	}
	if ok, out := as(unnamed); !ok {
		t.Error(out)
	}
	if ok, out := as(unnamed + 1); ok {
		t.Error(out)
	}
	i := newImpostor(t, unnamed, "-port", primary.port)
	users := write(t, "passwd", "root:x:0:0::/root:/bin/sh\nconmgr:x:4711:4711::/:/bin/false\n")
	os.Chmod(users, 0o644)
	script := `mount --make-rprivate / && mount --bind "$0" /etc/passwd && exec psql -X -w -At -d "$1" -c "select 'here'"`
	cmd := program(t, byPath(), "unshare", "-m", "sh", "-ec", script, users, dsn(i.port, ""))
	cmd.Env = append(cmd.Env, "PATH=/usr/bin:/usr/sbin:/bin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "here" {
		t.Errorf("%v\n%s", err, out)
	}
}

// The environment of a set-group-ID program is its caller's: it allows nobody.
func TestPGCMUSERIsIgnoredWithPrivilege(t *testing.T) {
	i := newImpostor(t, daemon, "-port", primary.port)
	path := filepath.Join(bindir, "privileged")
	if err := run(root, "gcc", "-I/usr/include/postgresql", "-o", path, "libpq/test/c/async.c", "-lpq",
		"-Wl,--disable-new-dtags,-rpath,"+front); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{0o755: "connected", 0o755 | os.ModeSetgid: nobodys} {
		if err := os.Chown(path, 0, daemon); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		cmd := program(t, []string{"PGCMUSER=*"}, path, dsn(i.port, ""))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unnamed, Gid: unnamed}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v", mode, err)
		}
		wantAll(t, string(out), want)
	}
}

// socketDir is a directory that everybody may enter and write to.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestUnixSocketToConmgr(t *testing.T) {
	dir := socketDir(t)
	abstract := "@" + filepath.Base(dir)
	newImpostor(t, 0, "-network", "unix", "-listen", dir+"/.s.PGSQL.1", "-port", primary.port)
	newImpostor(t, daemon, "-network", "unix", "-listen", dir+"/.s.PGSQL.2", "-port", primary.port)
	newImpostor(t, daemon, "-network", "unix", "-listen", abstract+"/.s.PGSQL.2", "-port", primary.port)
	newImpostor(t, 0, "-network", "unix", "-listen", abstract+"/.s.PGSQL.1", "-port", primary.port)
	refusal := `connection to server on socket "` + dir + `/.s.PGSQL.2" failed: the process that listens there ` +
		nobodys
	for _, c := range []struct{ host, more, env, want string }{
		{dir, "port=1", "", "here"}, {dir, "port=1 requirepeer=root", "", "here"},
		{dir, "port=1 requirepeer=daemon", "", "requirepeer specifies"},
		{dir, "port=2", "", refusal}, {dir, "port=2", "",
			"HINT:  If it is the right one, name the user in the environment variable PGCMUSER, or use requirepeer."},
		{dir, "port=2 requirepeer=daemon", "", "here"}, {dir, "port=2", "PGCMUSER=daemon", "here"},
		{dir, "port=2", "PGCMUSER=*", "here"},
		{dir, "port=2 requirepeer=root", "PGCMUSER=*", "requirepeer specifies"},
		{abstract, "port=1", "", "here"}, {abstract, "port=2", "", nobodys},
		{abstract, "port=2 requirepeer=daemon", "", "here"},
		// beyond the question to conmgr, sslmode holds for the instance, which has no TLS
		{dir, "port=1 sslmode=verify-full", "", since14(t, "port "+primary.port+" failed: ") + "server does not support SSL"},
		{dir, "port=2 sslmode=verify-full", "", refusal},
	} {
		if c.host == abstract && libpqVersion(t) < 14 {
			continue // it takes the name for that of a host
		}
		_, out := believed(t, []string{c.env}, "user=postgres dbname=postgres host="+c.host+" "+c.more)
		wantAll(t, out, c.want)
	}
	// What conmgr does not have, and libpq would miss in it, is asked of the instance alone.
	for _, c := range []struct{ more, want string }{
		{"port=1", "channel binding required"}, {"port=1 requirepeer=daemon",
			`requirepeer specifies "daemon", but actual peer user name is "root"`},
		{"port=2", refusal}, {"port=2 requirepeer=daemon", "channel binding required"},
	} {
		for _, host := range []string{dir, abstract} {
			if host == abstract && libpqVersion(t) < 14 {
				continue
			}
			_, out := believed(t, nil, "user=postgres dbname=postgres channel_binding=require host="+host+" "+c.more)
			wantAll(t, out, strings.Replace(c.want, dir, host, 1))
			if c.want == "channel binding required" {
				wantAll(t, out, since14(t, "port "+primary.port)) // it is the instance that lacks it
			}
		}
	}
	wantAll(t, output(t, byPath(), "families", "user=postgres dbname=postgres port=1 host="+dir), "host=localhost",
		"port="+primary.port, "socket=yes")
	out := failure(t, byPath(), "psql", "-X", "-d", "user=postgres dbname=postgres port=3 host="+dir, "-c", "select 1")
	wantAll(t, out, since14(t, `connection to server on socket "`+dir+`/.s.PGSQL.3" failed: `)+"No such file or directory")
}

// A process in a user namespace of its own sees as 65534 whoever is not mapped there.
func TestUserNamespace(t *testing.T) {
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Fatal(err)
	}
	dir := socketDir(t)
	foreign := newImpostor(t, daemon, "-port", primary.port)
	newImpostor(t, daemon, "-network", "unix", "-listen", dir+"/.s.PGSQL.1", "-port", primary.port)
	roots := newImpostor(t, 0, "-port", primary.port)
	local := "user=postgres dbname=postgres port=1 host=" + dir
	for _, c := range []struct{ env, conninfo, want string }{
		{"", dsn(foreign.port, ""), "belongs to user ID 65534, which may be anybody's"},
		{"PGCMUSER=nobody", dsn(foreign.port, ""), "belongs to user ID 65534, which may be anybody's"},
		{"PGCMUSER=*", dsn(foreign.port, ""), "here"}, {"", dsn(roots.port, ""), "here"},
		{"", local, "HINT:  If it is the right one, use requirepeer, or set the environment variable PGCMUSER to *."},
		{"", local + " requirepeer=nobody", "here"}, {"PGCMUSER=*", local, "here"},
	} {
		cmd := program(t, append(byPath(), c.env), "unshare", "--user", "--map-root-user", filepath.Join(pgbin, "psql"),
			"-X", "-w", "-At",
			"-d", c.conninfo, "-c", "select 'here'")
		out, _ := cmd.CombinedOutput()
		wantAll(t, string(out), c.want)
	}
}
