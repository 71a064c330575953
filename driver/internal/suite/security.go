package suite

// TLS and passwords: both go by the name of the instance, not by that of conmgr.

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
)

// The certificate is that of the instance's name, which resolves nowhere; the address is
// hostaddr's.
func verifyFull(t *test) {
	s := t.conmgr()
	connString := fmt.Sprintf("host=localhost port=%d user=postgres sslmode=verify-full sslrootcert=%s", s.Port(),
		t.pair.RootCert)
	p := t.open("%s", connString)
	if tls, err := p.Value(t.within(), "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); err != nil ||
		tls != "true" {
		t.Errorf("got %v, %v, want TLS", tls, err)
	}
	wrong := t.pair.Instances()
	wrong[0].Host = "other.livepg.test"
	s.Set(wrong...)
	if err := t.fails(t.open("%s", connString)); !strings.Contains(err.Error(), "other.livepg.test") {
		t.Errorf("got %v, want the certificate refused for the other name", err)
	}
	s.Set(t.pair.Instances()...)
	t.loses(s, p)
}

// A conmgr that is not on a loopback address is not asked by an application that demands TLS:
// anybody could answer there.
func remoteConmgr(t *test) {
	l, err := net.Listen("tcp", net.JoinHostPort(t.ownAddress(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first := make(chan string, 1)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		b := make([]byte, 64)
		n, _ := nc.Read(b)
		first <- string(b[:n])
		nc.Write([]byte{'N'})
	}()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	// A Unix socket first: what holds for it must not hold for the second host.
	err = t.fails(t.open("host=/nonexistent,%s port=%s user=postgres sslmode=require", host, port))
	if text := strings.ToLower(err.Error()); !strings.Contains(text, "ssl") && !strings.Contains(text, "tls") {
		t.Errorf("got %v, want that the server has no TLS", err)
	}
	if got := <-first; got != "\x00\x00\x00\x08\x04\xd2\x16\x2f" {
		t.Errorf("the first message was %q, want an SSLRequest", got)
	}
}

func passwordFile(t *test) {
	s := t.conmgr()
	file := filepath.Join(t.TempDir(), "pgpass")
	line := fmt.Sprintf("localhost:*:*:*:wrong\n%s:%d:*:app:%s\n", livepg.Name, t.pair.Primary, livepg.Password)
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSFILE", file)
	connString := fmt.Sprintf("host=localhost port=%d user=app dbname=postgres sslmode=disable", s.Port())
	if got := t.roleOf("%s", connString); got != "primary" {
		t.Error(got)
	}
	// An instance that refuses, with no password of its own, comes before it.
	s.Set(t.refuser(7, scripted.Primary, startingUp), t.pair.Instances()[0])
	if got := t.roleOf("%s", connString); got != "primary" {
		t.Errorf("after an instance that refused: %s", got)
	}
	s.Set(t.pair.Instances()...)
	// The connection string's own password goes before that of the file.
	if err := t.fails(t.open("%s password=wrong", connString)); t.adapter.SQLState(err) != "28P01" {
		t.Errorf("got %v, want 28P01", err)
	}
}

// A wrong password is the same everywhere: it ends the walk, and is told in the driver's words.
func wrongPassword(t *test) {
	s := t.conmgr()
	err := t.fails(t.open("host=localhost,127.0.0.1 port=%d user=app password=wrong dbname=postgres sslmode=disable",
		s.Port()))
	if t.adapter.SQLState(err) != "28P01" {
		t.Errorf("got %v, want 28P01", err)
	}
	if q := s.Asked(); len(q) != 1 {
		t.Errorf("conmgr was asked %q, want one question", q)
	}
}
