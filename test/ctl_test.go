package test

// cm_ctl, as an unprivileged user of a client host runs it, and applications of the conmgr that it
// starts.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const nobody = 65534

// ctl is a directory of a conmgr process, and cm_ctl for it.
type ctl struct {
	*testing.T
	host *testnet.Host
	bin  string
	dir  string
}

// newCtl copies the programs to where nobody can run them, and makes a directory with a
// conmgr.conf.
func newCtl(t *testing.T, host *testnet.Host, conf string) *ctl {
	t.Helper()
	root, err := pgtest.SourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	top, err := testkit.TempDir("watchdog-ctl-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	c := &ctl{t, host, filepath.Join(top, "bin"), filepath.Join(top, "cm")}
	for _, dir := range []string{c.bin, c.dir} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"conmgr", "cm_ctl"} {
		data, err := os.ReadFile(filepath.Join(root, "build", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(c.bin, name), data, 0o755)
		}
		if err != nil {
			t.Fatalf("%v; run \"make\" first", err)
		}
	}
	c.write("conmgr.conf", conf)
	if err := os.Chown(c.dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *ctl) in(t *testing.T) *ctl {
	d := *c
	d.T = t
	return &d
}

func (c *ctl) write(name, text string) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o644); err != nil {
		c.Fatal(err)
	}
}

func (c *ctl) command(args ...string) *exec.Cmd {
	cmd := c.host.CommandWith(context.Background(), testnet.Options{UID: nobody, GID: nobody},
		filepath.Join(c.bin, "cm_ctl"), args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/", "CMDATA=" + c.dir}
	cmd.Dir = "/"
	return cmd
}

// run runs cm_ctl with pipes for its output, as a shell's $(...) does, and expects an exit status.
// A conmgr that held the pipes open would end in exec.ErrWaitDelay.
func (c *ctl) run(status int, args ...string) string {
	c.Helper()
	out, err := c.command(args...).CombinedOutput()
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		c.Fatalf("cm_ctl %v: %v\n%s", args, err, out)
	}
	if got != status {
		c.Fatalf("cm_ctl %v: exit status %d, want %d\n%s\nconmgr's log:\n%s", args, got, status, out, c.log())
	}
	return string(out)
}

// says runs cm_ctl and checks its output.
func (c *ctl) says(status int, args []string, want ...string) {
	c.Helper()
	if out := c.run(status, args...); !contains(out, want...) {
		c.Errorf("cm_ctl %v said\n%s, want %q", args, out, want)
	}
}

func (c *ctl) log() string {
	b, _ := os.ReadFile(filepath.Join(c.dir, "conmgr.log"))
	return string(b)
}

func (c *ctl) pid() int {
	b, _ := os.ReadFile(filepath.Join(c.dir, "conmgr.pid"))
	first, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(first)
	return pid
}

// report is the documented shape of status --json.
type report struct {
	Pid          *int                `json:"pid"`
	State        string              `json:"state"`
	Port         *int                `json:"port"`
	Instances    []cm.InstanceStatus `json:"instances"`
	Applications []struct {
		ClientAddr  string    `json:"client_addr"`
		ClientPort  int       `json:"client_port"`
		Target      string    `json:"target"`
		Instance    int       `json:"instance"`
		ConnectedAt time.Time `json:"connected_at"`
		Name        *string   `json:"application_name"`
		Via         *string   `json:"via"`
	} `json:"applications"`
	Waiting []struct {
		ClientAddr   string    `json:"client_addr"`
		ClientPort   int       `json:"client_port"`
		Name         *string   `json:"application_name"`
		Target       string    `json:"target"`
		WaitingSince time.Time `json:"waiting_since"`
		WaitsUntil   time.Time `json:"waits_until"`
	} `json:"waiting"`
	Version   *string    `json:"version"`
	Directory string     `json:"directory"`
	Listening *string    `json:"listen_addresses"`
	Started   *time.Time `json:"started"`
}

// String is what was printed, not the addresses of what it points to.
func (r report) String() string {
	return said(r)
}

// said is v as JSON.
func said(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func (c *ctl) report(status int) (r report) {
	c.Helper()
	out, err := c.command("status", "--json").Output() // what goes to standard error is for people
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == status {
		err = nil
	}
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields()
	if err == nil {
		err = d.Decode(&r)
	}
	if err != nil || d.More() || r.Instances == nil || r.Applications == nil {
		c.Fatalf("cm_ctl status --json: %v\n%s", err, out)
	}
	return r
}

// application is a connection that is bound to the primary.
type application struct {
	net.Conn
	frontend *pgproto3.Frontend
}

func (c *ctl) application() *application {
	c.Helper()
	conn, err := c.host.Dialer().DialTimeout("tcp", "127.0.0.1:27546", patience)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { conn.Close() })
	a := &application{conn, pgproto3.NewFrontend(pgproto3.NewChunkReader(conn), conn)}
	_ = a.frontend.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber,
		Parameters: map[string]string{"user": "app"}})
	_ = a.frontend.Send(&pgproto3.Query{String: "SHOW TARGET primary"})
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	for ready := 0; ready < 2; {
		m, err := a.frontend.Receive()
		if err != nil {
			c.Fatalf("SHOW TARGET primary: %v", err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			c.Fatalf("SHOW TARGET primary: %s", m.Message)
		case *pgproto3.ReadyForQuery:
			ready++
		}
	}
	return a
}

// told is what conmgr says to the application within a time: a message, "closed", or "" for
// nothing.
func (a *application) told(within time.Duration) string {
	_ = a.SetReadDeadline(time.Now().Add(within))
	m, err := a.frontend.Receive()
	if e, ok := m.(*pgproto3.ErrorResponse); ok && err == nil {
		return e.Severity + " " + e.Code + ": " + e.Message
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	return "closed"
}

// waitStatus waits for an exit status of cm_ctl status.
func (c *ctl) waitStatus(status int) {
	c.Helper()
	eventually(c, fmt.Sprintf("cm_ctl status is %d", status), func() (bool, string) {
		cmd := c.command("status")
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode() == status, string(out)
	})
}
