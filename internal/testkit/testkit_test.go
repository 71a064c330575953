package testkit

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestProgramRunsCleanupsAfterFatalf(t *testing.T) {
	var order []string
	err := Program(context.Background(), io.Discard, func(r *Run) {
		r.Cleanup(func() { order = append(order, "first registered") })
		r.Cleanup(func() {
			order = append(order, "last registered")
			r.Cleanup(func() { order = append(order, "registered by a cleanup") })
			r.Fatalf("second failure")
		})
		r.Fatalf("failure %d", 1)
		order = append(order, "after Fatalf")
	})
	if err == nil || err.Error() != "failure 1" {
		t.Errorf("got error %v, want failure 1", err)
	}
	if got, want := strings.Join(order, ", "), "last registered, registered by a cleanup, first registered"; got != want {
		t.Errorf("got order %q, want %q", got, want)
	}
}

func TestProgramReportsPanic(t *testing.T) {
	err := Program(context.Background(), io.Discard, func(*Run) { panic("boom") })
	if err == nil || !strings.Contains(err.Error(), "panic: boom") {
		t.Errorf("got error %v, want the panic", err)
	}
}

func TestPoll(t *testing.T) {
	n := 0
	if err := Poll(time.Minute, func() (bool, string) { n++; return n == 3, "" }); err != nil || n != 3 {
		t.Errorf("got %v after %d calls, want success at the third", err, n)
	}
	err := Poll(5*time.Millisecond, func() (bool, string) { return false, "still red" })
	if err == nil || !strings.Contains(err.Error(), "still red") {
		t.Errorf("got %v, want the last state", err)
	}
}

func TestTempDirRemovesThoseOfDeadProcesses(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(os.TempDir(), "wdkit-"+strconv.Itoa(cmd.Process.Pid)+"-x")
	alive := filepath.Join(os.TempDir(), "wdkit-"+strconv.Itoa(os.Getppid())+"-x")
	other := filepath.Join(os.TempDir(), "wdkit-name-x")
	for _, d := range []string{stale, alive, other} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := TempDir("wdkit")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("%s is still there", stale)
	}
	for _, d := range []string{alive, other, dir} {
		if _, err := os.Stat(d); err != nil {
			t.Error(err)
		}
	}
}
