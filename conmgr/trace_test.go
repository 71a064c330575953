package conmgr

// Tests of the messages of levels INFO and DEBUG, of a missing syslog, and of file capabilities.

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/conmgr/cmlog"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

func TestTrace(t *testing.T) {
	for _, level := range []cmlog.Level{cmlog.DEBUG, cmlog.INFO, cmlog.WARNING} {
		t.Run(level.String(), func(t *testing.T) {
			b := newBackend(t, 1)
			r := staticWith(t, "relay_port_standby = 1\nbackend_host0 = db0\n"+b.conf(1),
				func(r *rig) { r.level = level }, primary, standby)
			c := r.connect()
			c.query("SHOW TARGET standby")
			c.query("SHOW TARGET any EXCEPT 0, 1")
			r.through(0, b)
			c.c.Close()
			r.waitCount(1, "it has gone")
			eventually(t, "what is asked for is there, and nothing else", func() bool {
				for line, lowest := range map[string]cmlog.Level{
					"(test) asked for standby: instance 1 (host \"127.0.0.2\", address 127.0.0.2, port ": cmlog.INFO,
					"(test) asked for (except [0 1]) any: no instance\nDETAIL:  instance 0 (":            cmlog.INFO,
					"is relayed to standby: instance 1 (host \"127.0.0.2\", ":                            cmlog.INFO,
					"connecting to the watchdog: instance 0 (":                                           cmlog.INFO,
					"connection from application accepted: 127.0.0.1:":                                   cmlog.DEBUG,
					"connection from application ended: 127.0.0.1:":                                      cmlog.DEBUG,
					"connection from application to a relay port accepted: 127.0.0.1:":                   cmlog.DEBUG,
					"it is not standby": cmlog.DEBUG, // why not the others
					"candidates: 1; it is the only candidate; instance 0 (": cmlog.DEBUG, // and why this one
				} {
					if (r.logged(line) > 0) != (level <= lowest) {
						return false
					}
				}
				return true
			})
		})
	}
}

// lockedBuffer is a standard error that may be read meanwhile.
type lockedBuffer struct{ memorySink }

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Without a syslog daemon conmgr says so and starts; when there is one, it logs there, and tells
// how much was lost.
func TestNoSyslog(t *testing.T) {
	dir, _ := conmgrDir(t, "backend_host0 = 127.0.0.1\nlog_destination = syslog\nheartbeat_connect_interval = 100ms\n")
	path := filepath.Join(dir, "devlog")
	signals, ended := make(chan os.Signal, 1), make(chan error, 1)
	stderr := &lockedBuffer{}
	go func() { ended <- Run(Options{Dir: dir, Signals: signals, Stderr: stderr, syslogSocket: path}) }()
	eventually(t, "it is said on stderr", func() bool {
		return stderr.count("WARNING:  no syslog takes messages at \""+path+"\": no such file or directory") == 1 &&
			stderr.count("HINT:  Messages to syslog are lost until one does.") == 1
	})
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// something to log, after the pause
	tick := time.AfterFunc(cmlog.SyslogRetry+cmlog.SyslogRetry/10, func() { signals <- syscall.SIGINT })
	defer tick.Stop()
	l.SetReadDeadline(time.Now().Add(patience))
	var got []string
	buf := make([]byte, 2000)
	for !strings.Contains(strings.Join(got, "\n"), "shut down") {
		n, err := l.Read(buf)
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(got, "\n"))
		}
		got = append(got, string(buf[:n]))
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.Contains(got[0], "lines were not logged: syslog was not available") {
		t.Errorf("the first line: %s", got[0])
	}
	if stderr.count("no syslog takes") != 1 {
		t.Errorf("said more than once:\n%s", stderr)
	}
}

// A program with capabilities that everybody may run does not destroy sockets.
func TestFileCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to set file capabilities")
	}
	binary, err := conmgrBinary()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := testkit.TempDir("caps")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(bin) })
	file := filepath.Join(bin, "conmgr")
	copyFile(t, binary, file)
	dir, _ := conmgrDir(t, "backend_host0 = 127.0.0.1\ndestroy_sockets = on\n")
	capability := make([]byte, 20) // struct vfs_cap_data, revision 2, effective
	capability[0], capability[3] = 1, 2
	capability[5] = 1 << (unix.CAP_NET_ADMIN - 8)
	for _, x := range []struct {
		mode    os.FileMode
		caps    bool
		refused bool
	}{{0o755, true, true}, {0o751, true, true}, {0o750, true, false}, {0o755, false, false}} {
		if err := os.Chown(file, 0, nobody); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, x.mode); err != nil {
			t.Fatal(err)
		}
		if x.caps {
			if err := unix.Setxattr(file, "security.capability", capability, 0); err != nil {
				t.Fatalf("setxattr: %v", err)
			}
		} else if err := unix.Removexattr(file, "security.capability"); err != nil && err != unix.ENODATA {
			t.Fatal(err)
		}
		cmd := command(t, file, "-D", dir)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		started := func() bool { _, err := os.Stat(filepath.Join(dir, "conmgr.pid")); return err == nil }
		eventually(t, "it starts or ends", func() bool {
			select {
			case <-done:
				return true
			default:
				return started()
			}
		})
		cmd.Process.Kill()
		<-done
		os.Remove(filepath.Join(dir, "conmgr.pid"))
		want := fmt.Sprintf("the program \"%s\" has file capabilities, and everybody may run it", file)
		if strings.Contains(out.String(), want) != x.refused {
			t.Errorf("%+v:\n%s", x, &out)
		}
		if !x.caps && !strings.Contains(out.String(), "conmgr has not the capability CAP_NET_ADMIN") {
			t.Errorf("%+v:\n%s", x, &out)
		}
	}
}
