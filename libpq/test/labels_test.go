package libpqtest

// Sessions say by a label whose they are, where conmgr has named one, and the application's own
// options stay what they are.

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
)

const label = "0123456789abcdef0123456789abcdef"

// labelled is an instance that knows labels.
func labelled(in scripted.Instance) scripted.Instance {
	in.Client = label
	return in
}

// seen is a query for the label, and what else a session has of the application's options.
const seen = `SELECT concat_ws('|', current_setting('` + cm.LabelSetting + `', true), current_setting('work_mem'),
	current_setting('my.words', true))`

// quoted is a value of a connection string.
func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// wantOptions holds a connection to what its handle and its session say of its options, when it is
// made and after a reset.
func wantOptions(t *testing.T, env []string, conninfo, shown, session string) {
	t.Helper()
	line := "[" + shown + "] [" + shown + "] " + session + "\n"
	if got := output(t, append(byPath(), env...), "options", conninfo, seen); got != line+line {
		t.Errorf("%q, %q: got\n%swant twice\n%s", conninfo, env, got, line)
	}
}

func TestLabels(t *testing.T) {
	m := conmgrWith(t, labelled(primary.instance(0, isPrimary)), standby.instance(1, isStandby))
	service := write(t, "services", "[shop]\noptions=-c work_mem=7MB\n")
	for _, c := range []struct {
		options, more, shown, want string
		env                        []string
	}{
		{want: "|4MB"},
		{options: "-c work_mem=5MB", want: "|5MB", env: []string{"PGOPTIONS=-c work_mem=6MB"}},
		{shown: "-c work_mem=6MB", want: "|6MB", env: []string{"PGOPTIONS=-c work_mem=6MB"}},
		{more: "service=shop", shown: "-c work_mem=7MB", want: "|7MB",
			env: []string{"PGSERVICEFILE=" + service, "PGOPTIONS=-c work_mem=6MB"}},
		{options: `-c work_mem=5MB  -cmy.words=one\ \\two\ 'three'` + "\t", want: `|5MB|one \two 'three'`},
		{options: `-c my.words=x\`, want: "|4MB|x"}, // the server ignores it there
		{options: "-c my.words=y --", want: "|4MB|y"},
	} {
		conninfo := dsn(m.Port(), c.more)
		if c.options != "" {
			conninfo += " options=" + quoted(c.options)
			c.shown = c.options
		}
		wantOptions(t, c.env, conninfo, c.shown, label+c.want)
	}
	wantOptions(t, nil, dsn(m.Port(), "target_session_attrs=standby options='-c work_mem=5MB'"), "-c work_mem=5MB", "5MB")
	// Replication connections, too, and TLS that is asked for changes nothing.
	for _, more := range []string{"replication=database", "sslmode=prefer", "dbname=template1"} {
		if got := output(t, byPath(), "psql", "-X", "-At", "-d", dsn(m.Port(), more), "-c", "SHOW "+cm.LabelSetting); got != label+"\n" {
			t.Errorf("%s: got %s", more, got)
		}
	}
	// A program that connects again with what it was given is labelled once.
	again := program(t, byPath(), "psql", "-X", "-At", "-d", dsn(m.Port(), "options='-c work_mem=5MB'"))
	again.Stdin = strings.NewReader("\\c template1\n" + strings.ReplaceAll(seen, "\n", " ") + ";\n")
	if out, err := again.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "\n"+label+"|5MB\n") {
		t.Errorf("%v: got %s", err, out)
	}
}

// Nobody else than conmgr labels: not a server of the list, and not a conmgr that knows no label.
func TestLabelsOfOthers(t *testing.T) {
	m := conmgrWith(t, labelled(primary.instance(0, isPrimary)))
	m.SmartShutdown()
	wantOptions(t, nil, "host=localhost,localhost port="+m.Port()+","+primary.port+
		" user=postgres dbname=postgres options='-c work_mem=5MB'", "-c work_mem=5MB", "5MB")
	for _, args := range [][]string{nil, {"-columns", "port,hostaddr,attributes,host,instance"}} {
		i := newImpostor(t, 0, append([]string{"-port", primary.port}, args...)...)
		wantOptions(t, nil, dsn(i.port, "options='-c work_mem=5MB'"), "-c work_mem=5MB", "5MB")
		i.stop()
	}
}

// A pooler in the server's place refuses options that it does not know: the session is not labelled
// then. Its refusal of what is not ours is the application's to hear.
func TestLabelsAndPoolers(t *testing.T) {
	var took, refused atomic.Int32
	pooler := answering(t, func(c *net.TCPConn) {
		defer c.Close()
		m := startup(c)
		if m == nil {
			return
		}
		if strings.Contains(m.Parameters["options"], cm.LabelSetting) {
			refused.Add(1)
			out, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: cm.ProtocolViolation,
				Message: "unsupported startup parameter in options: " + cm.LabelSetting}).Encode(nil)
			c.Write(out)
			return
		}
		took.Add(1)
		server, err := net.Dial("tcp", "127.0.0.1:"+primary.port)
		if err != nil {
			return
		}
		defer server.Close()
		b, _ := m.Encode(nil)
		server.Write(b)
		go func() { io.Copy(server, c); server.Close() }()
		io.Copy(c, server)
	})
	m := conmgrWith(t, labelled(at(0, "localhost", pooler, isPrimary)))
	wantOptions(t, nil, dsn(m.Port(), "options='-c work_mem=5MB'"), "-c work_mem=5MB", "5MB")
	if took.Load() != 2 || refused.Load() != 2 { // with a reset
		t.Errorf("the pooler took %d, and refused %d", took.Load(), refused.Load())
	}
	always := refusing(t, cm.ProtocolViolation)
	m = conmgrWith(t, labelled(always.instance(0, isPrimary)))
	got := failure(t, byPath(), "psql", "-X", "-d", dsn(m.Port(), ""), "-c", "select 1")
	if strings.Count(got, "refused, as") != 1 || always.seen.Load() != 2 {
		t.Errorf("tried %d times: %s", always.seen.Load(), got)
	}
}
