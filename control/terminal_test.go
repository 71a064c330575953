package control

// What cm_ctl shows on a terminal, and again and again.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// onTerminal is what a status shows there, without carriage returns.
func (d *desk) onTerminal(env map[string]string, args ...string) string {
	d.t.Helper()
	ours, theirs := terminals(d.t)
	c := Command{Args: append([]string{"status", "-D", d.dir}, args...), Stdout: theirs, Stderr: theirs, Euid: 1000,
		Getenv: func(n string) string { return env[n] }}
	code := c.Run(context.Background())
	fmt.Fprint(theirs, "\x04END")
	var got bytes.Buffer
	for !strings.Contains(got.String(), "END") {
		var b [4096]byte
		n, err := ours.Read(b[:])
		if err != nil {
			d.t.Fatal(err)
		}
		got.Write(b[:n])
	}
	if code != 0 {
		d.t.Errorf("exit status %d", code)
	}
	return strings.ReplaceAll(got.String(), "\r", "")
}

func TestColoursOnATerminalOnly(t *testing.T) {
	d := newDesk(t, "prompt")
	d.want(d.cmctl("start"), 0)
	if r := d.cmctl("status"); strings.Contains(r.stdout, "\x1b") {
		t.Errorf("in a file: %q", r.stdout)
	}
	for _, columns := range []string{"80", "50"} { // a table, and records
		env := map[string]string{"TERM": "xterm", "COLUMNS": columns}
		got := d.onTerminal(env)
		if !strings.Contains(got, "\x1b[32mestablished\x1b[0m") || !strings.Contains(got, "\x1b[31mlost\x1b[0m") {
			t.Errorf("on a terminal: %q", got)
		}
		for name, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
			env := map[string]string{"TERM": "xterm", "COLUMNS": columns}
			env[name] = value
			plain := d.onTerminal(env)
			if strings.Contains(plain, "\x1b[3") {
				t.Errorf("%s=%s: %q", name, value, plain)
			}
			strip := strings.NewReplacer("\x1b[32m", "", "\x1b[31m", "", "\x1b[0m", "")
			if a, b := layout(strip.Replace(got)), layout(plain); a != b {
				t.Errorf("colours change the layout: %q, %q", a, b)
			}
		}
	}
}

// layout is where the columns are: digits change from look to look.
func layout(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return '0'
		}
		return c
	}, strings.Split(s, "Instances:")[1])
}

func TestWatch(t *testing.T) {
	d := newDesk(t, "prompt")
	d.want(d.cmctl("start"), 0)
	for _, args := range [][]string{{}, {"--json"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended, begin := make(chan int, 1), time.Now()
		go func() {
			ended <- Command{Args: append([]string{"status", "--watch", "-D", d.dir}, args...), Stdout: w, Stderr: w, Euid: 1000,
				Getenv: os.Getenv}.Run(ctx)
			w.Close()
		}()
		word := "conmgr process is running"
		if len(args) > 0 {
			word = `"state":"running"`
		}
		var got strings.Builder
		for strings.Count(got.String(), word) < 2 {
			var b [4096]byte
			n, err := r.Read(b[:])
			if err != nil {
				t.Fatalf("%v after %q", err, got.String())
			}
			got.Write(b[:n])
		}
		if time.Since(begin) < 900*time.Millisecond {
			t.Errorf("%v: two looks within %v", args, time.Since(begin))
		}
		cancel()
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
		if code := <-ended; code != exitInterrupted {
			t.Errorf("%v: exit status %d", args, code)
		}
		r.Close()
		if strings.Contains(got.String(), "\x1b") {
			t.Errorf("%v: %q", args, got.String())
		}
	}
	d.want(d.cmctl("status", "--watch=0"), 1, "invalid time \"0\"")
	d.want(d.cmctl("status", "--watch", "--check=all"), 1, "cannot be used together")
}
