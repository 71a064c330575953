package suite

// Sessions say by a label whose they are, where conmgr has named one, and the application's own
// options stay what they are.

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
)

const label = "0123456789abcdef0123456789abcdef"

// labelled is a conmgr that has a label for the primary.
func (t *test) labelled() *scripted.Conmgr {
	s := t.conmgr()
	pair := t.pair.Instances()
	pair[0].Client = label
	s.Set(pair...)
	return s
}

// settings are what a session says of settings, and of its label first.
func (t *test) settings(connString string, names ...string) string {
	t.Helper()
	p := t.open("%s", connString)
	defer p.Close()
	query := "SELECT coalesce(current_setting('" + cm.LabelSetting + "', true), '')"
	for _, name := range names {
		query += " || '|' || coalesce(current_setting('" + name + "', true), '')"
	}
	v, err := p.Value(t.within(), query)
	if err != nil {
		return err.Error()
	}
	return v
}

// quoted is a value of a connection string.
func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func labels(t *test) {
	s := t.labelled()
	connString := fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", s.Port())
	for _, c := range []struct{ options, environment, want string }{
		{"", "", "|4MB||"},
		{"-c work_mem=5MB", "-c work_mem=6MB", "|5MB||"},
		{"", "-c work_mem=6MB", "|6MB||"},
		{`-c work_mem=5MB  -cmy.words=one\ \\two\ 'three'` + "\t--my.other=äöü ", "", `|5MB|one \two 'three'|äöü`},
		{`-c my.words=x\`, "", "|4MB|x|"}, // the server ignores it there
		{"-c my.words=y --", "", "|4MB|y|"},
	} {
		t.Setenv("PGOPTIONS", c.environment)
		with := connString
		if c.options != "" {
			with += " options=" + quoted(c.options)
		}
		if got := t.settings(with, "work_mem", "my.words", "my.other"); got != label+c.want {
			t.Errorf("options %q, PGOPTIONS %q: got %s, want %s", c.options, c.environment, got, label+c.want)
		}
	}
	t.Setenv("PGOPTIONS", "-c work_mem=6MB")
	if got := t.settings(connString+" target_session_attrs=standby", "work_mem"); got != "|6MB" {
		t.Errorf("an instance without a label: got %s", got)
	}
	// What there is of the host is labelled in each of the ways that sslmode has.
	for _, mode := range t.adapter.SSLModes {
		if got := t.settings(fmt.Sprintf("host=localhost port=%d user=postgres sslmode=%s", s.Port(), mode)); got != label {
			t.Errorf("%s: got %s", mode, got)
		}
	}
}

// Nobody else than conmgr labels: not a server of the list, and not a conmgr that knows no label.
func labelsOfOthers(t *test) {
	s := t.labelled()
	s.SmartShutdown()
	if got := t.settings(list(s.Port(), t.pair.Primary) + " sslmode=disable"); got != "" {
		t.Errorf("a server of the list: got %s", got)
	}
	old := naming(livepg.Name, "127.0.0.1", t.pair.Primary)
	for name, change := range map[string]func(*hostile.Script){
		"no column": func(s *hostile.Script) { s.Columns = cm.TargetColumns[:cm.OldTargetColumns] },
		"empty":     func(*hostile.Script) {},
	} {
		script := old
		change(&script)
		h := t.hostile(script)
		connString := fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", h.Port())
		if got := t.settings(connString+" options='-c work_mem=5MB'", "work_mem"); got != "|5MB" {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// A pooler in the server's place refuses options that it does not know: the session is not
// labelled then, and what the application itself has asked for is not kept from it.
func labelsAndPoolers(t *test) {
	var took, refused atomic.Int32
	pooler := t.listen(func(nc net.Conn, m *pgproto3.StartupMessage) {
		if strings.Contains(m.Parameters["options"], cm.LabelSetting) {
			refused.Add(1)
			fatal(cm.ProtocolViolation, "unsupported startup parameter in options: conmgr.client")(nc)
			return
		}
		took.Add(1)
		server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", t.pair.Primary))
		if err != nil {
			return
		}
		defer server.Close()
		b, _ := m.Encode(nil)
		server.Write(b)
		go func() { io.Copy(server, nc); server.Close() }()
		io.Copy(nc, server)
	})
	s := t.conmgr()
	s.Set(scripted.Instance{Number: 7, Host: livepg.Name, HostAddr: "127.0.0.1", Port: pooler, Client: label,
		Attributes: scripted.Primary})
	connString := fmt.Sprintf("host=localhost port=%d user=postgres sslmode=disable", s.Port())
	if got := t.settings(connString+" options='-c work_mem=5MB'", "work_mem"); got != "|5MB" {
		t.Errorf("got %s", got)
	}
	if took.Load() != 1 || refused.Load() != 1 {
		t.Errorf("the pooler took %d, and refused %d", took.Load(), refused.Load())
	}
	// Its refusal of what is not ours is the application's to hear.
	s.Set(scripted.Instance{Number: 8, Host: livepg.Name, HostAddr: "127.0.0.1", Client: label,
		Port: t.noServer(fatal(cm.ProtocolViolation, "unsupported startup parameter: extra")).port, Attributes: scripted.Primary})
	if err := t.fails(t.open("%s", connString)); t.adapter.SQLState(err) != cm.ProtocolViolation {
		t.Errorf("got %v", err)
	}
}
