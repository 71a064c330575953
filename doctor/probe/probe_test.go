package probe

// What is gathered, on loopback and on files of the tests' own; test/ has real servers and firewalls.

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/control"
	"github.com/pgwatchdog/watchdog/doctor"
	"github.com/pgwatchdog/watchdog/internal/schema"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// answering is a port that answers each connection with these bytes, and closes it.
func answering(t *testing.T, answer string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 512))
			_, _ = io.WriteString(c, answer)
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestSQLPort(t *testing.T) {
	for answer, want := range map[string]doctor.Speaks{"N": doctor.Postgres, "S": doctor.Postgres, "E\x00\x00": doctor.Postgres,
		"\x00\x08\x05\x00": doctor.Watchdog, "HTTP/1.1 400": doctor.Nothing, "": doctor.Nothing} {
		r := sqlPort(answering(t, answer), 5*time.Second)
		if r.Outcome != doctor.Connected || r.Speaks != want || r.Local.String() != "127.0.0.1" || (want == doctor.Nothing) != (r.Cause != "") {
			t.Errorf("%q: %+v", answer, r)
		}
	}
}

func TestReach(t *testing.T) {
	free := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(testkit.ClosedPort(t)))
	if r := sqlPort(free, 5*time.Second); r.Outcome != doctor.Refused || r.Cause != "connection refused" {
		t.Errorf("nobody listens: %+v", r)
	}
	if r := sqlPort(netip.MustParseAddrPort("[fe80::1]:1"), time.Second); r.Outcome != doctor.Unreachable || r.Cause == "" {
		t.Errorf("no way: %+v", r)
	}
}

// examine runs it in a directory with a conmgr.conf.
func examine(t *testing.T, conf string, env map[string]string) control.DoctorAnswer {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "conmgr.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	a := Run(context.Background(), control.DoctorRequest{Dir: dir, Limit: 2 * time.Second, JSON: true, Getenv: func(n string) string { return env[n] }})
	schema.Check(t, "doctor.schema.json", a.Text)
	return a
}

func TestJSON(t *testing.T) {
	if a := examine(t, "prot = 1\n", nil); !a.Errors || !strings.Contains(a.Text, `unknown parameter \"prot\"`) {
		t.Errorf("%+v", a)
	}
	if a := examine(t, "backend_host0 = localhost\nbackend_port0 = 1\nwatchdog_port0 = 2\n", nil); !a.Errors ||
		!strings.Contains(a.Text, "nobody listens at 127.0.0.1:2") {
		t.Errorf("%+v", a)
	}
	if a := examine(t, "backend_host0 = no-such-host.invalid\n", nil); !a.Errors || !strings.Contains(a.Text, "cannot be resolved") {
		t.Errorf("%+v", a)
	}
}

func TestFront(t *testing.T) {
	dir := t.TempDir()
	source, file := filepath.Join(dir, "a.c"), filepath.Join(dir, libpqName)
	if err := os.WriteFile(source, []byte("int PQcmSocket(void) { return 0; }\nint PQconnectdb(void) { return 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", file, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	real := filepath.Join(t.TempDir(), libpqName)
	if err := os.WriteFile(source, []byte("int PQconnectdb(void) { return 0; }\nint PQexec(void) { return 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", real, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f := front(func(n string) string {
		return map[string]string{"LD_LIBRARY_PATH": "/nonexistent:" + dir, "WATCHDOG_LIBPQ": real}[n]
	})
	if f.Path != file || f.Libpq != real || !slices.Equal(f.Missing, []string{"PQexec"}) || !slices.Equal(f.Lacks, []string{"PQcmDraining"}) {
		t.Errorf("%+v", f)
	}
}

func TestHost(t *testing.T) {
	h := host(0)
	if !h.Own || h.Descriptors == 0 {
		t.Errorf("%+v", h)
	}
	if h := host(os.Getpid()); h.Own || h.Descriptors == 0 {
		t.Errorf("%+v", h)
	}
}
