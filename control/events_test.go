package control

import (
	"bufio"
	"os"
	"syscall"
	"testing"
)

// Tests of cm_ctl events.

func TestEvents(t *testing.T) {
	d := newDesk(t, "fixed")
	d.want(d.cmctl("events"), 1, "Is conmgr process running?")
	d.want(d.cmctl("start"), 0)
	d.want(d.cmctl("events"), 0, "2026-01-02T03:04:05.678Z  WARNING:  is?lost (and 3 more)\n    HINT:  look\n"+
		"2026-01-02T03:04:06.678Z  LOG:  7\n    DETAIL:  de<tail\n")
	const first = `{"number":1,"time":"2026-01-02T03:04:05.678Z","event":"lost","level":"WARNING","instance":0,"host":"db\"0",` +
		`"port":5432,"reason":"silence","text":"is\u001blost","hint":"look","repeated":3}` + "\n"
	const second = `{"number":2,"time":"2026-01-02T03:04:06.678Z","event":"started","level":"LOG","text":"7","detail":"de<tail"}` + "\n"
	if r := d.cmctl("events", "--json"); r.code != 0 || r.stdout != first+second {
		t.Errorf("got %+v", r)
	}
}

// The next ones come as lines of their own, each once, until somebody interrupts it.
func TestEventsFollow(t *testing.T) {
	d := newDesk(t, "fixed")
	d.want(d.cmctl("start"), 0)
	cmd := cmCtlProcess("fixed", "events", "-D", d.dir, "--follow", "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var all []string
	for len(all) < 3 && lines.Scan() {
		all = append(all, lines.Text())
	}
	if len(all) != 3 || all[2] != `{"number":3,"time":"2026-01-02T03:04:07.678Z","event":"ended","level":"LOG","text":"8"}` {
		t.Errorf("got %q", all)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		t.Errorf("and %q", lines.Text())
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("ended by %v", err)
	}
}
