package leak

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// recorder is a TB that keeps what Check says about it.
type recorder struct {
	testkit.TB
	errors   []string
	cleanups []func()
}

func (r *recorder) Helper()                   { /* nothing to skip */ }
func (r *recorder) Failed() bool              { return len(r.errors) > 0 }
func (r *recorder) Cleanup(f func())          { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(_ string, a ...any) { r.errors = append(r.errors, a[0].(error).Error()) }

func TestCheck(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = 100 * time.Millisecond
	t.Run("clean", func(t *testing.T) {
		r := &recorder{}
		Check(r)
		done := make(chan struct{})
		go func() { close(done) }()
		<-done
		r.cleanups[0]()
		if r.Failed() {
			t.Errorf("got %q, want none", r.errors)
		}
	})
	t.Run("goroutine", func(t *testing.T) {
		r := &recorder{}
		Check(r)
		end := make(chan struct{})
		go func() { <-end }()
		r.cleanups[0]()
		close(end)
		if len(r.errors) != 1 || !strings.Contains(r.errors[0], "leak_test.go") {
			t.Errorf("got %q, want the goroutine of this file", r.errors)
		}
	})
	t.Run("descriptor", func(t *testing.T) {
		r := &recorder{}
		Check(r)
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		r.cleanups[0]()
		f.Close()
		if len(r.errors) != 1 || !strings.Contains(r.errors[0], "/dev/null") {
			t.Errorf("got %q, want the open file", r.errors)
		}
	})
}
