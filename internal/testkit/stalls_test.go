package testkit

import (
	"os/exec"
	"syscall"
	"testing"
)

// A process that is to end with the thread that has started it outlives the watch: else tests would
// lose their servers.
func TestStallsLeaveThreads(t *testing.T) {
	child := exec.Command("sleep", "60")
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for range 50 {
		if WatchStalls().Longest() < 0 {
			t.Error("a stall of less than nothing")
		}
	}
	select {
	case err := <-ended:
		t.Errorf("it has ended: %v", err)
	default:
	}
	_ = child.Process.Kill()
}
