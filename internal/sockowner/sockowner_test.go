//go:build linux

package sockowner

// Real sockets of this process, and of one of another user.

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const childVariable = "SOCKOWNER_TEST_LISTEN"

// TestMain makes the test program a listener that accepts one connection, says a byte, and waits
// for its end.
func TestMain(m *testing.M) {
	if address := os.Getenv(childVariable); address != "" {
		os.Exit(child(address))
	}
	os.Exit(m.Run())
}

func child(address string) int {
	l, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(l.Addr())
	nc, err := l.Accept()
	if err != nil {
		return 1
	}
	nc.Write([]byte{'x'})
	io.Copy(io.Discard, nc)
	return 0
}

// connect returns both ends of a connection: the client's, and the peer's after its first byte.
func connect(t *testing.T, network, address string) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return connectTo(t, l)
}

func connectTo(t *testing.T, l net.Listener) (client, server net.Conn) {
	t.Helper()
	defer l.Close()
	target := l.Addr().String()
	if host, port, _ := net.SplitHostPort(target); host == "::" { // dual stack: by IPv4
		target = "127.0.0.1:" + port
	}
	var err error
	if client, err = net.Dial(l.Addr().Network(), target); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

func TestOwnProcess(t *testing.T) {
	me := uint32(os.Geteuid())
	for _, c := range [][2]string{
		{"tcp", "127.0.0.1:0"}, {"tcp", "[::1]:0"}, {"tcp", "[::]:0"}, {"unix", filepath.Join(t.TempDir(), "socket")},
	} {
		client, server := connect(t, c[0], c[1])
		for name, end := range map[string]net.Conn{"client": client, "server": server} {
			if uid, err := Peer(end); uid != me || err != nil {
				t.Errorf("%s, asked by the %s: got %d, %v, want %d", c[1], name, uid, err, me)
			}
			tcp, ok := end.(*net.TCPConn)
			if !ok {
				continue
			}
			p, err := pairOf(tcp)
			if err != nil {
				t.Fatal(err)
			}
			s, err := fromProc(p)
			if uid, err2 := s.owner(); uid != me || err != nil || err2 != nil {
				t.Errorf("%s, asked by the %s in /proc: got %d, %v, %v, want %d", c[1], name, uid, err, err2, me)
			}
		}
	}
}

func TestGone(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn){
		"closes": func(c *net.TCPConn) { c.Close() },
		"resets": func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
		"ends its sending": func(c *net.TCPConn) {
			c.CloseWrite()
		},
	} {
		client, server := connect(t, "tcp", "127.0.0.1:0")
		server.Write([]byte("an answer"))
		end(server.(*net.TCPConn))
		b := make([]byte, 9)
		if _, err := io.ReadFull(client, b); err != nil {
			t.Fatalf("%s: the answer cannot be read: %v", name, err)
		}
		if _, err := Peer(client); !errors.Is(err, ErrGone) {
			t.Errorf("%s: got %v, want ErrGone", name, err)
		}
	}
	client, _ := connect(t, "tcp", "127.0.0.1:0")
	client.Close()
	if _, err := Peer(client); err == nil {
		t.Error("an owner of a connection that is closed here")
	}
}

// Before it is accepted, a connection is nobody's.
func TestNotAccepted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if uid, err := Peer(client); !errors.Is(err, ErrGone) {
		t.Errorf("got %d, %v, want ErrGone", uid, err)
	}
}

func TestAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	const other = 54321
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		cmd := exec.Command(copyOfTest(t))
		cmd.Env = append(os.Environ(), childVariable+"="+address)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other},
			Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		target, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp", strings.TrimSpace(target))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if uid, err := Peer(client); uid != other || err != nil {
			t.Errorf("%s: got %d, %v, want %d", address, uid, err, other)
		}
		client.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// copyOfTest is the test program where every user can run it.
func copyOfTest(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sockowner")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "child")
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A socket that listens on the peer's port is not the peer: a connection to another network
// namespace finds it.
func TestListenerIsNoPeer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := pair{local: l.Addr().(*net.TCPAddr).AddrPort(), remote: l.Addr().(*net.TCPAddr).AddrPort()}
	if _, err := diag(p); err != syscall.ENOENT {
		t.Errorf("got %v, want ENOENT", err)
	}
	if _, err := find(p); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v, want ErrUnknown", err)
	}
	if _, err := Peer(struct{ net.Conn }{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("no socket at all: got %v, want ErrUnknown", err)
	}
}

// A connection that has ended has no holder; a listener at its address is none.
func TestLookupGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, server := connect(t, "tcp", "127.0.0.1:0")
	p, err := pairOf(server.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	client.(*net.TCPConn).SetLinger(0) // no socket stays for the rest of the connection
	client.Close()
	if _, err := Lookup(p.local, p.remote); err != ErrGone {
		t.Errorf("the peer: got %v, want ErrGone", err)
	}
	half, rest := connect(t, "tcp", "127.0.0.1:0")
	if p, err = pairOf(rest.(*net.TCPConn)); err != nil {
		t.Fatal(err)
	}
	half.Close() // the kernel keeps its socket, as the other end is still open, and shows it as root's
	if uid, err := Lookup(p.local, p.remote); err != ErrGone {
		t.Errorf("a socket that was closed: got %d, %v, want ErrGone", uid, err)
	}
	if _, err := Lookup(l.Addr().(*net.TCPAddr).AddrPort(), p.remote); err != ErrGone {
		t.Errorf("the listener: got %v, want ErrGone", err)
	}
}

func TestConnections(t *testing.T) {
	client, server := connect(t, "tcp", "127.0.0.1:0")
	a, b := client.LocalAddr().(*net.TCPAddr).AddrPort(), server.LocalAddr().(*net.TCPAddr).AddrPort()
	found := map[pair]int{}
	Connections(func(local, remote netip.AddrPort) { found[pair{local, remote}]++ })
	if found[pair{a, b}] != 1 || found[pair{b, a}] != 1 {
		t.Errorf("%v to %v: both ends should be there once", a, b)
	}
	for p := range found {
		if p.remote.Port() == 0 {
			t.Errorf("%v is no connection", p)
		}
	}
}

func TestProcAddress(t *testing.T) {
	for text, want := range map[string]string{
		"0100007F:1538":                         "127.0.0.1:5432",
		"0000000000000000FFFF00000100007F:1538": "127.0.0.1:5432",
		"00000000000000000000000001000000:0001": "[::1]:1",
	} {
		got, ok := procAddress(text)
		if littleEndian := binary.NativeEndian.Uint16([]byte{1, 0}) == 1; littleEndian && (!ok || got.String() != want) {
			t.Errorf("%s: got %v, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "0100007F", "xx:1", "01:1", "0100007F:12345"} {
		if got, ok := procAddress(text); ok {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("   0: 0100007F:1538 0100007F:8A2C 01 00000000:00000000 00:00000000 00000000   999        0 12345 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseProc(string(b))
	})
}
