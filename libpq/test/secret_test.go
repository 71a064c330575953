package libpqtest

// What the front says in the clear on behalf of a user who has asked for TLS, and leaves in memory.

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// A peer that is no conmgr and wants a password, in the clear, of a user who asked for TLS.
func TestNoSecretInTheClear(t *testing.T) {
	thief := newLoot(t)
	pass := write(t, "pass", "*:*:*:*:s3cret\n")
	for _, more := range []string{"sslmode=require password=s3cret",
		"sslmode=verify-full sslrootcert=/nonexistent password=s3cret",
		"sslmode=require passfile=" + pass, "sslmode=require"} {
		failure(t, append(byPath(), "PGPASSWORD="), "psql", "-X", "-w", "-d", dsn(thief.port, more), "-c", "select 1")
		failure(t, append(byPath(), "PGPASSWORD=s3cret"), "psql", "-X", "-w", "-d", dsn(thief.port, more), "-c", "select 1")
	}
	switch heard := thief.all(); {
	case strings.Contains(heard, "s3cret"):
		t.Errorf("the peer heard %q", heard)
	case heard == "":
		t.Error("the peer heard nothing at all")
	}
}

func TestFreedMemoryHasNoSecret(t *testing.T) {
	wantAll(t, output(t, plain(), "wiped"), "ok")
}

// A conmgr, or whatever it may be, on another host: a user who asked for TLS gives it nothing, not
// even a name.
func TestNothingInTheClearToAnotherHost(t *testing.T) {
	n := testnet.New(t)
	client, other := n.Host("client"), n.Host("other")
	l, err := other.Listen("tcp", ":5432")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 100)
	go func() {
		defer close(heard)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			hear(c, heard)
		}
	}()
	p := program(t, byPath(), "psql", "-X", "-w", "-d",
		"host="+other.Addr4.String()+" user=alice dbname=postgres password=s3cret sslmode=require")
	cmd := client.Command(context.Background(), p.Path, p.Args[1:]...)
	cmd.Env, cmd.Dir = p.Env, scratch
	out, _ := cmd.CombinedOutput()
	wantAll(t, string(out), "server does not support SSL, but SSL was required")
	l.Close()
	var all string
	for text := range heard {
		all += text
	}
	if all != "\x00\x00\x00\x08\x04\xd2\x16\x2f" { // SSLRequest
		t.Errorf("it heard %q", all)
	}
}

// hear answers N to whatever is said, until the peer ends.
func hear(c net.Conn, heard chan<- string) {
	defer c.Close()
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		heard <- string(buf[:n])
		c.Write([]byte("N"))
	}
}
