package libpqtest

// Who is believed to be a Connection Manager: impostors of several kinds and users listen in its
// place, and send applications to a thief, who must not get so much as a connection.

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	daemon  = 1    // a user that every Debian has
	unnamed = 4711 // one that has no name
)

// An impostor is a process of libpq/test/impostor.
type impostor struct {
	port  string
	lines *bufio.Reader
	stop  func() string // its remaining output
}

// newImpostor starts one under a user; -port and the like go to it.
func newImpostor(t *testing.T, uid uint32, args ...string) *impostor {
	t.Helper()
	cmd := exec.Command(filepath.Join(bindir, "impostor"), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	i := &impostor{lines: bufio.NewReader(out)}
	var once sync.Once
	var rest strings.Builder
	i.stop = func() string {
		once.Do(func() {
			in.Close()
			i.lines.WriteTo(&rest)
			cmd.Wait()
		})
		return rest.String()
	}
	t.Cleanup(func() { i.stop() })
	line, err := i.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the impostor did not start: %v", err)
	}
	i.port = strings.TrimSpace(strings.TrimPrefix(line, "listening "))
	return i
}

// loot is a thief that asks whoever comes for his password, and what he got.
type loot struct {
	port  string
	mu    sync.Mutex
	heard []string
}

func newLoot(t *testing.T) *loot {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	x := &loot{port: port}
	go x.take(l)
	return x
}

func (x *loot) take(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		x.hear("a connection")
		go x.rob(c)
	}
}

func (x *loot) all() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return strings.Join(x.heard, "\n")
}

func (x *loot) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heard = nil
}

// rob declines encryption, asks for the password in the clear, and hears one answer.
func (x *loot) rob(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 4096)
	for _, say := range []string{"N", "R\x00\x00\x00\x08\x00\x00\x00\x03", "R\x00\x00\x00\x08\x00\x00\x00\x03"} {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		x.hear(string(buf[:n]))
		if n > 8 && say == "N" { // no request for encryption
			say = "R\x00\x00\x00\x08\x00\x00\x00\x03"
		}
		c.Write([]byte(say))
	}
}

func (x *loot) hear(text string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heard = append(x.heard, text)
}

func (x *loot) none(t *testing.T) {
	t.Helper()
	if all := x.all(); all != "" {
		t.Errorf("the thief got %q", all)
	}
	x.forget()
}

var (
	nobodys = `belongs to user "daemon" (user ID 1), who is not trusted to be the Connection Manager`
	howto   = "HINT:  If it is the right one, name the user in the environment variable PGCMUSER, or connect by its Unix-domain socket (host=DIRECTORY) with requirepeer."
)

// secret is a connection string with something to steal.
func secret(port, more string) string {
	return "hostaddr=127.0.0.1 host=localhost user=alice dbname=postgres password=s3cret connect_timeout=5 port=" +
		port + " " + more
}

// refused runs psql and an asynchronous program, neither of which must connect.
func refused(t *testing.T, env []string, conninfo string, want ...string) {
	t.Helper()
	env = append(byPath(), env...)
	wantAll(t, failure(t, env, "psql", "-X", "-w", "-d", conninfo, "-c", "select 'query'"), want...)
	wantAll(t, output(t, env, "async", conninfo), append(want, "failed: ")...)
}

func TestImpostorOfAnotherUser(t *testing.T) {
	loot := newLoot(t)
	for name, args := range map[string][]string{
		"directory":           {"-host", "/some/dir"},
		"directory and alias": {"-host", "/x", "-hostaddr", "127.0.0.1"},
		"another name":        {"-host", "other.example"},
		"address alone":       {"-host", ""},
		"two rows":            {"-rows", "2"},
		"bound to lo":         {"-device", "lo"},
		"no target":           {"-mode", "error"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newImpostor(t, daemon, append(args, "-port", loot.port)...)
			want := []string{`connection to server at "localhost", port ` + i.port +
				" failed: the process that listens there " + nobodys, howto}
			modes := []string{"disable", "verify-full"}
			if name == "directory" {
				modes = []string{"disable", "prefer", "require", "verify-ca", "verify-full"}
			}
			for _, mode := range modes {
				refused(t, nil, secret(i.port, "sslmode="+mode), want...)
			}
			if asked := i.stop(); asked != "" {
				t.Errorf("the impostor was %s", asked)
			}
			loot.none(t)
		})
	}
}

// The impostor that has closed its end before it is looked at belongs to nobody, not to root.
func TestImpostorThatCloses(t *testing.T) {
	loot := newLoot(t)
	for _, mode := range []string{"early", "abort"} {
		i := newImpostor(t, daemon, "-mode", mode, "-port", loot.port)
		for range 10 {
			for _, ssl := range []string{"disable", "verify-full"} {
				failure(t, byPath(), "psql", "-X", "-w", "-d", secret(i.port, "sslmode="+ssl), "-c", "select 'query'")
			}
		}
		loot.none(t)
	}
}

func TestImpostorThatIsDeaf(t *testing.T) {
	for _, mode := range []string{"deaf", "mute"} {
		i := newImpostor(t, daemon, "-mode", mode)
		for _, ssl := range []string{"disable", "verify-full"} {
			out := failure(t, byPath(), "psql", "-X", "-w", "-d", secret(i.port, "connect_timeout=2 sslmode="+ssl),
				"-c", "select 1")
			wantAll(t, out, "timeout expired")
			wantAll(t, output(t, byPath(), "async", secret(i.port, "sslmode="+ssl), "500"), "gave up")
		}
	}
}

// Both loopback families, and IPv4 at a socket of IPv6 on either side.
func TestImpostorByFamily(t *testing.T) {
	loot := newLoot(t)
	for _, c := range []struct{ listen, connect string }{
		{"[::1]:0", "::1"}, {"[::]:0", "127.0.0.1"}, {"[::]:0", "::ffff:127.0.0.1"},
		{"127.0.0.1:0", "::ffff:127.0.0.1"}, {"127.0.0.2:0", "127.0.0.2"},
	} {
		for _, way := range [][]string{nil, {"netlink"}} {
			foreign := newImpostor(t, daemon, "-listen", c.listen, "-port", loot.port)
			conninfo := "user=alice dbname=postgres password=s3cret hostaddr=" + c.connect + " port="
			out, err := sandboxed(t, way, nil, "psql", "-X", "-w", "-d", conninfo+foreign.port, "-c", "select 1")
			if err == nil {
				t.Error("it is believed")
			}
			wantAll(t, out, nobodys)
			own := newImpostor(t, 0, "-listen", c.listen, "-port", primary.port)
			out, err = sandboxed(t, way, nil, "psql", "-X", "-w", "-d",
				"user=postgres dbname=postgres hostaddr="+c.connect+" port="+own.port, "-c", "select 'here'")
			if err != nil || !strings.Contains(out, "here") {
				t.Errorf("%s by %s: %v\n%s", c.listen, c.connect, err, out)
			}
		}
	}
	loot.none(t)
}

// sandboxed runs a program as sandbox.c has it, if way says so.
func sandboxed(t *testing.T, way, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := program(t, append(byPath(), env...), name, args...)
	if way != nil {
		cmd.Args = append(append(append([]string{filepath.Join(bindir, "sandbox")}, way...), cmd.Path), args...)
		cmd.Path = cmd.Args[0]
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A socket that is bound to an interface is found as well, in either way.
func TestImpostorBoundToAnInterface(t *testing.T) {
	loot := newLoot(t)
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		i := newImpostor(t, daemon, "-device", "lo", "-port", loot.port, "-listen", listen)
		host, _, _ := net.SplitHostPort(listen)
		for _, way := range []string{"netlink", "proc"} {
			out, err := sandboxed(t, []string{way}, nil, "psql", "-X", "-w", "-d",
				"user=alice dbname=postgres password=s3cret hostaddr="+host+" port="+i.port, "-c", "select 1")
			if err == nil {
				t.Errorf("%s, without %s: it is believed", listen, way)
			}
			wantAll(t, out, nobodys)
		}
	}
	loot.none(t)
}

// A conmgr on another host, or in another network namespace, is nobody that this one's kernel
// knows.
func TestConmgrElsewhere(t *testing.T) {
	n := testnet.New(t)
	client, other := n.Host("client"), n.Host("other")
	l, err := other.Listen("tcp", ":5432")
	if err != nil {
		t.Fatal(err)
	}
	loot := &loot{port: "5432"}
	go loot.take(l)
	cm, err := other.Listen("tcp", ":27546")
	if err != nil {
		t.Fatal(err)
	}
	s, err := scripted.Start(scripted.Options{Listener: cm}, scripted.Instance{Number: 0, Host: "db1",
		HostAddr: other.Addr4.String(), Port: 5432, Attributes: isPrimary})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for _, c := range []struct {
		env, more string
		want      []string
	}{
		{"", "", []string{"a connection", "s3cret"}},
		{"PGCMHOSTS=db1", "", []string{"a connection", "s3cret"}},
		{"PGCMHOSTS=db2", "", nil},
	} {
		p := program(t, append(byPath(), c.env), "psql", "-X", "-w", "-d",
			"host="+other.Addr4.String()+" port=27546 user=alice dbname=postgres password=s3cret sslmode=disable", "-c",
			"select 1")
		cmd := client.Command(context.Background(), p.Path, p.Args[1:]...)
		cmd.Env, cmd.Dir = p.Env, scratch
		out, _ := cmd.CombinedOutput()
		if c.want == nil {
			wantAll(t, string(out), `the answer's host "db1" is not one of PGCMHOSTS`)
			loot.none(t)
			continue
		}
		wantAll(t, loot.all(), c.want...)
		loot.forget()
	}
}

// Neither netlink nor /proc/net: who listens is unknown, which will do unless the server was to be
// identified.
func TestUnknownOwner(t *testing.T) {
	i := newImpostor(t, 0, "-port", primary.port)
	named := newImpostor(t, 0, "-port", primary.port, "-host", "DB.example")
	blind := []string{"blind"}
	query := []string{"-X", "-w", "-c", "select 'here'", "-d"}
	home := t.TempDir()
	for _, mode := range []string{"disable", "allow", "prefer"} {
		out, err := sandboxed(t, blind, nil, "psql", append(query, dsn(i.port, "sslmode="+mode))...)
		if err != nil || !strings.Contains(out, "here") {
			t.Errorf("%s: %v\n%s", mode, err, out)
		}
	}
	for _, mode := range []string{"verify-ca", "verify-full"} {
		unknown := fmt.Sprintf(`sslmode "%s" needs a trusted Connection Manager, and whose process listens there is not known: neither netlink nor /proc/net/tcp can be used`, mode)
		for _, pins := range []string{"", " ,"} {
			out, err := sandboxed(t, blind, []string{"PGCMHOSTS=" + pins}, "psql",
				append(query, dsn(i.port, "sslmode="+mode))...)
			if err == nil {
				t.Error("it is believed")
			}
			wantAll(t, out, unknown, "HINT:  Connect by its Unix-domain socket (host=DIRECTORY), ",
				"or set the environment variable PGCMUSER to *.")
		}
		// beyond that it fails as the instance has no TLS
		for _, env := range []string{"PGCMUSER=*", "PGCMHOSTS=a, db.example ,c"} {
			out, _ := sandboxed(t, blind, []string{env}, "psql", append(query, dsn(named.port, "sslmode="+mode))...)
			if believed := strings.Contains(out, since14(t, "port "+primary.port+" failed: ")+"server does not support SSL"); believed != (mode == "verify-full" || env == "PGCMUSER=*") {
				t.Errorf("%s, %s:\n%s", mode, env, out)
			}
		}
	}
	// With a root certificate, require is verify-ca.
	certificate := filepath.Join(home, ".postgresql", "root.crt")
	for _, more := range []string{"", " sslrootcert=" + certificate} {
		for _, there := range []bool{false, true} {
			os.RemoveAll(filepath.Dir(certificate))
			if there {
				os.Mkdir(filepath.Dir(certificate), 0o755)
				os.WriteFile(certificate, []byte("one"), 0o644)
			}
			out, _ := sandboxed(t, blind, []string{"HOME=" + home}, "psql",
				append(query, dsn(i.port, "sslmode=require"+more))...)
			if refused := strings.Contains(out, `sslmode "verify-ca" needs a trusted Connection Manager`); refused != there {
				t.Errorf("sslmode=require%s, a certificate %v:\n%s", more, there, out)
			}
		}
	}
	out, err := sandboxed(t, blind, []string{"PGCMHOSTS=a,c"}, "psql",
		append(query, dsn(named.port, "sslmode=disable"))...)
	if err == nil {
		t.Error("a host that is not on the list is believed")
	}
	wantAll(t, out, `could not receive server address from Connection Manager: the answer's host "DB.example" is not one of PGCMHOSTS`)
}

// A connection that is not accepted yet, or not any more, belongs to nobody, whatever number the
// kernel shows for it.
func TestOwnersByState(t *testing.T) {
	path := filepath.Join(bindir, "owners")
	if err := run(root, "gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-D_GNU_SOURCE", "-Ilibpq",
		"-I/usr/include/postgresql",
		"-o", path, "libpq/test/c/owners.c", "libpq/wire/owner.c", "libpq/wire/ownerproc.c"); err != nil {
		t.Fatal(err)
	}
	want := "queued: gone, gone\naccepted: known, known: 1 1\nclosed: gone, gone\nforgotten: gone, gone\n"
	if got := output(t, nil, path); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
