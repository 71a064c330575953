package libpqtest

// sslmode=verify-full checks the name that the answer gives: an impostor can name another host of
// the same authority, one that he has broken into for example. Who is believed, and which hosts are
// acceptable, is what stands against that.

import (
	"crypto/tls"
	"net"
	"os/exec"
	"strings"
	"testing"
)

// tlsLoot is a thief with a certificate.
func tlsLoot(t *testing.T, dir, name string) *loot {
	t.Helper()
	for _, args := range [][]string{
		{"req", "-new", "-nodes", "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".csr"},
		{"x509", "-req", "-days", "2", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
			"-out", name + ".crt"},
	} {
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl: %v\n%s", err, out)
		}
	}
	pair, err := tls.LoadX509KeyPair(dir+"/"+name+".crt", dir+"/"+name+".key")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	x := &loot{port: port}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			x.hear("a connection")
			go func() {
				defer c.Close()
				if n, _ := c.Read(make([]byte, 8)); n != 8 {
					return
				}
				c.Write([]byte("S"))
				x.rob(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}}))
			}()
		}
	}()
	return x
}

func TestAnotherNameOfTheSameAuthority(t *testing.T) {
	_, dir := secureServer(t)
	loot := tlsLoot(t, dir, "broken.example")
	pass := write(t, "pass", "*:*:*:*:s3cret\n")
	i := newImpostor(t, daemon, "-host", "broken.example", "-port", loot.port)
	base := "host=localhost user=alice dbname=postgres sslmode=verify-full gssencmode=disable sslrootcert=" + dir +
		"/ca.crt port=" + i.port
	for _, c := range []struct {
		env  []string
		want string // "": robbed
	}{
		{nil, nobodys},
		{[]string{"PGCMHOSTS=broken.example"}, nobodys},
		{[]string{"PGCMUSER=daemon", "PGCMHOSTS=db.example,10.0.0.1"},
			`the answer's host "broken.example" is not one of PGCMHOSTS`},
		{[]string{"PGCMUSER=daemon"}, ""},
	} {
		for _, secret := range []string{" password=s3cret", " passfile=" + pass} {
			out := failure(t, append(byPath(), c.env...), "psql", "-X", "-w", "-d", base+secret, "-c", "select 1")
			if c.want == "" {
				if !strings.Contains(loot.all(), "s3cret") {
					t.Errorf("this thief cannot hear: %q\n%s", loot.all(), out)
				}
				loot.forget()
				continue
			}
			wantAll(t, out, c.want)
			loot.none(t)
		}
	}
}
