package control

// The test binary is also the processes that the tests control: started again with
// CONTROL_TEST_ROLE, it plays a role and ends.

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const roleVariable = "CONTROL_TEST_ROLE"

var roles = map[string]func() int{
	"holder":   holder,
	"conmgr":   fakeConmgr,
	"cm_ctl":   cmCtl,
	"becoming": becoming,
	"stranger": func() int { _, _ = io.Copy(io.Discard, os.Stdin); return 0 },
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(roles[role]())
	}
	os.Exit(m.Run())
}

// holder creates the pid file of os.Args[1], says how that went, and holds it until it is told
// "remove" or its standard input ends.
func holder() int {
	p, err := CreatePidFile(os.Args[1], Info{Port: 27546, ListenAddresses: "localhost"})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("locked")
	if line, _ := bufio.NewReader(os.Stdin).ReadString('\n'); line == "remove\n" {
		if err := p.Remove(); err != nil {
			fmt.Println("error:", err)
			return 1
		}
	}
	return 0
}

// player is a process in a role.
type player struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
}

func play(t *testing.T, role string, args ...string) *player {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &player{cmd, stdin, bufio.NewReader(stdout)}
}

func (p *player) pid() int { return p.cmd.Process.Pid }

// line is the next line that the player says.
func (p *player) line(t *testing.T) string {
	t.Helper()
	s, err := p.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("player ended: %v (%q)", err, s)
	}
	return strings.TrimSuffix(s, "\n")
}

func (p *player) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
