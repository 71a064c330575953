package handover

// What is left is found, whatever the process is by then.

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLeaveAndTake(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	inherited := func(fd int) bool {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil {
			t.Fatal(err)
		}
		return flags&unix.FD_CLOEXEC == 0
	}
	want := Record{PidFile: pipe[0], Listeners: []Listener{{"tcp", "127.0.0.1:1", pipe[1]}},
		Epochs: []Epoch{{"db0", 5432, 1 << 63, -1, 2, 3}},
		Relayed: []Relayed{{Client: pipe[0], Server: pipe[1], FromClient: []byte{0, 255}, Heard: true, Attribute: "any",
			Since: time.Unix(1, 2).UTC()}}}
	environment, err := Leave(want)
	if err != nil {
		t.Fatal(err)
	}
	if !inherited(pipe[0]) || !inherited(pipe[1]) {
		t.Error("the descriptors do not stay open")
	}
	name, value, _ := strings.Cut(environment, "=")
	t.Setenv(name, value)
	got, err := Take()
	if err != nil {
		t.Fatal(err)
	}
	want.Version = version
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, want %+v", *got, want)
	}
	if inherited(pipe[0]) || inherited(pipe[1]) {
		t.Error("other programs inherit the descriptors")
	}
	if _, left := os.LookupEnv(name); left {
		t.Error("it is found again")
	}
	if r, err := Take(); r != nil || err != nil {
		t.Errorf("nothing was left: %v, %v", r, err)
	}
}

func TestTakeNonsense(t *testing.T) {
	for _, value := range []string{"", "x", "1", "-1", "1000000"} {
		t.Setenv(variable, value)
		if r, err := Take(); r != nil || err == nil {
			t.Errorf("%q: %v, %v", value, r, err)
		}
	}
}
