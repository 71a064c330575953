package control

// A process that becomes another program by a thread that is not its first one, which execve is from
// Go nearly always: its first thread is a zombie meanwhile.

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const changesVariable = "CONTROL_TEST_CHANGES" // so many are left

// becoming is another program again and again, then says so, and ends with its standard input.
func becoming() int {
	left, err := strconv.Atoi(os.Getenv(changesVariable))
	if err != nil || left == 0 {
		fmt.Println("last", err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	for range 8 { // they have to end first
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	os.Setenv(changesVariable, strconv.Itoa(left-1))
	become := func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			err := unix.Exec("/proc/self/exe", os.Args, os.Environ())
			fmt.Println("execve:", err)
		}
		select {}
	}
	go become()
	go become()
	select {}
}

func TestBecomingIsNoEnd(t *testing.T) {
	t.Setenv(changesVariable, "100")
	player := play(t, "becoming")
	info := Info{Pid: player.pid()}
	if err := info.complete(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	processes := map[string]*process{}
	for _, how := range []string{"by a pidfd", "without pidfds"} {
		p, err := openProcess(info)
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		processes[how] = p
	}
	processes["without pidfds"].close()
	ctx, last := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for how, p := range processes {
		all.Go(func() {
			for ctx.Err() == nil {
				if p.waitExit(ctx, time.Now().Add(time.Millisecond)) {
					t.Errorf("%s: it has ended", how)
					return
				}
			}
		})
	}
	if said := player.line(t); said != "last <nil>" {
		t.Error(said)
	}
	last()
	all.Wait()
	_ = player.stdin.Close()
	for how, p := range processes {
		if !p.waitExit(context.Background(), time.Now().Add(20*time.Second)) { // a zombie: play waits for it later
			t.Errorf("%s: it has not ended", how)
		}
	}
}
