package libpqtest

// A conmgr that this process knows already: it is asked together with the startup, and what stands in
// its place later gets no more by that than before.

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

func features(words string) []backend.Parameter {
	return []backend.Parameter{{Name: cm.FeaturesParameter, Value: words}}
}

// standing is a conmgr on a port that it gives up with close; 0: one that nobody else takes then.
func standing(t *testing.T, port string, script hostile.Script) (at string, s *hostile.Server) {
	t.Helper()
	if port == "0" {
		port = freePort(t)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	s = hostile.Serve(l, script)
	t.Cleanup(s.Close)
	_, at, _ = net.SplitHostPort(l.Addr().String())
	return at, s
}

// acquainted is a program that has been led to the primary by the conmgr on a port.
func acquainted(t *testing.T, port string) *conversation {
	t.Helper()
	c := converse(t, byPath(), "again")
	c.again("first", port, "")
	c.until("first")
	return c
}

// again has it connect once more, and say a word then.
func (c *conversation) again(word, port, more string) {
	fmt.Fprintf(c.in, "%s %s\n", word, dsn(port, more))
}

// TestKnownConmgrIsAskedAtOnce: from the second connection on, before it has said a word.
func TestKnownConmgrIsAskedAtOnce(t *testing.T) {
	behind, s := standing(t, "0", hostile.Script{Rows: []hostile.Row{row("0", primary.port)}, Announced: features("wait,notify")})
	var n, early atomic.Int32
	port := answering(t, func(front *net.TCPConn) {
		var said []byte
		if n.Add(1) > 1 {
			buf := make([]byte, 4096)
			front.SetReadDeadline(time.Now().Add(10 * time.Second))
			for !strings.Contains(string(said), "SHOW TARGET any NOTIFY") {
				k, err := front.Read(buf)
				if said = append(said, buf[:k]...); err != nil {
					front.Close()
					return
				}
			}
			front.SetReadDeadline(time.Time{})
			early.Add(1)
		}
		joins(front, said, behind)
	})
	c := acquainted(t, port)
	for range 3 {
		c.again("next", port, "")
		c.until("next")
	}
	c.in.Close()
	if early.Load() != 3 || n.Load() != 4 || len(s.Asked()) != 4 {
		t.Errorf("%d of %d connections asked at once; %q", early.Load(), n.Load(), s.Asked())
	}
}

// TestAnotherInAKnownConmgrsPlace: whoever it is, is met as if nobody had been there before.
func TestAnotherInAKnownConmgrsPlace(t *testing.T) {
	leads := hostile.Script{Rows: []hostile.Row{row("0", primary.port)}, Announced: features("wait,notify")}
	never := "failed"
	if libpqVersion(t) < 14 { // which does not say what has failed
		never = "expected authentication request"
	}
	for _, x := range []struct {
		name string
		then func(t *testing.T, port string) (check func(t *testing.T))
		more string
		want string
	}{
		{"nobody", func(*testing.T, string) func(*testing.T) { return nil }, "", "onnection refused"},
		{"a server", func(t *testing.T, port string) func(*testing.T) {
			answeringAt(t, port, func(c *net.TCPConn) { joins(c, nil, primary.port) })
			return nil
		}, "", "second"},
		{"a conmgr that can do less", func(t *testing.T, port string) func(*testing.T) {
			script := leads
			script.Announced = nil
			script.Answer = func(statement string, _ <-chan struct{}) []byte { // and has no other clause
				if statement == "SHOW TARGET any" {
					return nil
				}
				return append(backend.ErrorResponse("ERROR", cm.FeatureNotSupported, "not supported", "", ""), "Z\x00\x00\x00\x05I"...)
			}
			_, s := standing(t, port, script)
			return func(t *testing.T) { // the question of before may be heard later, as it came by another connection
				if asked := s.Asked(); !slices.Contains(asked, "SHOW TARGET any") {
					t.Errorf("it was asked %q", asked)
				}
			}
		}, "", "second"},
		{"a conmgr that can do more", func(t *testing.T, port string) func(*testing.T) {
			script := leads
			script.Announced = features("wait,notify,resume")
			standing(t, port, script)
			return nil
		}, "", "second"},
		{"a mute one", func(t *testing.T, port string) func(*testing.T) {
			standing(t, port, hostile.Script{Mode: hostile.Mute})
			return nil
		}, "connect_timeout=2", "timeout expired"},
		{"one that never ends", func(t *testing.T, port string) func(*testing.T) {
			standing(t, port, hostile.Script{Mode: hostile.Babble})
			return nil
		}, "", never},
		{"one that has no target", func(t *testing.T, port string) func(*testing.T) {
			standing(t, port, hostile.Script{Mode: hostile.Error, Announced: leads.Announced})
			return nil
		}, "", "failed"},
		{"a process of another user", func(t *testing.T, port string) func(*testing.T) {
			loot := newLoot(t)
			newImpostor(t, daemon, "-listen", "127.0.0.1:"+port, "-port", loot.port, "-announce", "wait,notify")
			return loot.none
		}, "password=s3cret", "is not trusted to be the Connection Manager"},
		{"one that asks for a password", func(t *testing.T, port string) func(*testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:"+port)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go (&loot{}).take(l)
			return nil
		}, "", "no password supplied"},
	} {
		t.Run(x.name, func(t *testing.T) {
			port, first := standing(t, "0", leads)
			c := acquainted(t, port)
			first.Close()
			check := x.then(t, port)
			c.again("second", port, x.more)
			c.in.Close()
			if out, _ := c.end(); !strings.Contains(out, x.want) {
				t.Errorf("%q is missing in:\n%s", x.want, out)
			}
			if check != nil {
				check(t)
			}
		})
	}
}

// joins makes a connection, which has said something already, one with a server that is elsewhere, until
// either ends.
func joins(front net.Conn, said []byte, to string) {
	defer front.Close()
	server, err := net.Dial("tcp", "127.0.0.1:"+to)
	if err != nil {
		return
	}
	defer server.Close()
	server.Write(said)
	go func() {
		io.Copy(front, server)
		front.Close()
	}()
	io.Copy(server, front)
}

// TestRequiredPeerOfAKnownPlace: nothing is said to a process before its user is known to be the one
// that requirepeer names.
func TestRequiredPeerOfAKnownPlace(t *testing.T) {
	dir, err := os.MkdirTemp("", "known")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ".s.PGSQL.7")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := hostile.Serve(l, hostile.Script{Rows: []hostile.Row{row("0", primary.port)}})
	at := "host=" + dir + " port=7 user=postgres dbname=postgres requirepeer=root"
	c := converse(t, byPath(), "psql", "-X", "-w", "-At", "-d", at)
	fmt.Fprintln(c.in, "select 'first';")
	c.until("first")
	s.Close()
	i := newImpostor(t, daemon, "-network", "unix", "-listen", path, "-port", primary.port)
	fmt.Fprintf(c.in, "\\c '%s'\nselect 'second';\n", at)
	c.in.Close()
	out, _ := c.end()
	wantAll(t, out, `requirepeer specifies "root", but actual peer user name is "daemon"`)
	if heard := i.stop(); strings.Contains(heard, "asked") {
		t.Errorf("the other user's process %s", heard)
	}
}
