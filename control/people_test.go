package control

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pgwatchdog/watchdog/internal/cells"
)

func value(s string) *string { return &s }

// answerRows makes an answer of lines of words; "-" is NULL, "_" a space.
func answerRows(columns string, lines ...string) (a rows) {
	a.columns = strings.Fields(columns)
	for _, line := range lines {
		var row []*string
		for _, w := range strings.Fields(line) {
			if w == "-" {
				row = append(row, nil)
			} else {
				row = append(row, value(strings.ReplaceAll(w, "_", " ")))
			}
		}
		a.values = append(a.values, row)
	}
	return a
}

var twoInstances = answerRows("instance host port state role read_only timeline last_heartbeat_ms used_for not_used detail last_role draining bound",
	"0 db0.example 5432 established primary off 3 412 any,read-write - - primary - 4",
	"1 db1.example 5432 lost unknown - 2 65000 - a_newer_timeline_is_known:_3,_at_instance_0_(host_\"db0.example\") connection_refused primary server,here 1")

func TestListFitsTheWidth(t *testing.T) {
	for _, width := range []int{40, 60, 80, 132} {
		out := formatList(twoInstances, instanceColumns, instanceNotes, width, palette{})
		for _, line := range strings.Split(out, "\n") {
			if n := utf8.RuneCountInString(line); n > width {
				t.Errorf("width %d: a line of %d: %q", width, n, line)
			}
		}
		flat := strings.Join(strings.Fields(out), " ")
		for _, text := range []string{"db0.example", "db1.example", "established", "412 ms", "65 s",
			"used for any, read-write",
			"a newer timeline is known", "was primary", "detail: connection refused", "draining (server, here): 1 application is bound to it"} {
			if !strings.Contains(flat, text) {
				t.Errorf("width %d: %q is missing in\n%s", width, text, out)
			}
		}
		if table := strings.HasPrefix(out, " instance |"); table != (width >= 80) {
			t.Errorf("width %d: table %v\n%s", width, table, out)
		}
	}
}

// Wide characters take two cells, and those that are set upon others none: in tables and in records.
func TestWideCharactersFitTheWidth(t *testing.T) {
	wide := answerRows("instance host port state role timeline last_heartbeat_ms detail",
		"0 東京データ 5432 established primary 3 412 "+strings.Repeat("東", 60),
		"1 cafe\u0301 5432 connecting unknown - - -")
	for _, width := range []int{40, 76, 77, 132} {
		out := formatList(wide, instanceColumns, instanceNotes, width, palette{})
		for _, line := range strings.Split(out, "\n") {
			if n := cells.Width(line); n > width {
				t.Errorf("width %d: a line of %d: %q", width, n, line)
			}
		}
		if table := strings.HasPrefix(out, " instance |"); table != (width >= 77) {
			t.Errorf("width %d: table %v\n%s", width, table, out)
		}
	}
	table := strings.Split(formatList(wide, instanceColumns, nil, 80, palette{}), "\n")
	for _, line := range table[2:4] {
		before, _, _ := strings.Cut(line, "| 5432")
		if head, _, _ := strings.Cut(table[0], "| port"); cells.Width(before) != cells.Width(head) {
			t.Errorf("columns are not aligned:\n%s", strings.Join(table, "\n"))
		}
	}
}

func TestLongWordsAreFolded(t *testing.T) {
	var b strings.Builder
	writeFolded(&b, "ab | ", "   | ", strings.Repeat("x", 30)+" yy", 20)
	want := "ab | xxxxxxxxxxxxxxx\n   | xxxxxxxxxxxxxxx\n   | yy\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestClients(t *testing.T) {
	answer := answerRows("client_addr client_port", "10.0.0.1 40000", "2001:db8::1 40000", "- -1")
	for i, want := range []string{"10.0.0.1:40000", "[2001:db8::1]:40000", "[local]"} {
		if got := clientCell(answer.row(i)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	for ms, want := range map[int64]string{0: "0 ms", 9_999: "9999 ms", 10_000: "10 s", 599_999: "599 s",
		600_000: "10 min", 36_000_000: "10 h"} {
		if got := ago(&ms); got != want {
			t.Errorf("%d: %q, want %q", ms, got, want)
		}
	}
	if ago(nil) != "" {
		t.Error("never is not nothing")
	}
}

func TestCheck(t *testing.T) {
	const columns = "state role used_for"
	for _, c := range []struct {
		name              string
		rows              rows
		primary, all, any bool
	}{
		{"none", answerRows(columns), false, false, false},
		{"primary", answerRows(columns, "established primary read-write"), true, true, true},
		{"superseded", answerRows(columns, "established primary -"), false, true, true},
		{"standby", answerRows(columns, "established standby standby", "lost unknown -"), false, false, true},
		{"of 1.0", answerRows("state role", "established primary", "connecting unknown"), true, false, true},
		{"lost", answerRows(columns, "lost primary -"), false, false, false},
		{"duplicate", answerRows(columns, "established primary read-write", "duplicate primary -"), true, true, true},
	} {
		for check, want := range map[string]bool{"primary": c.primary, "all": c.all, "any": c.any} {
			if got := passes(check, c.rows); got != want {
				t.Errorf("%s: --check=%s: %v, want %v", c.name, check, got, want)
			}
		}
	}
}

func TestStatusCheck(t *testing.T) {
	d := newDesk(t, "prompt")
	d.want(d.cmctl("status", "--check=primary"), 3, "CONMGR UNKNOWN - no conmgr process running\n")
	d.want(d.cmctl("start"), 0)
	d.want(d.cmctl("status", "--check=primary"), 0, "CONMGR OK - primary is instance 0 (db0:27500); 1 of 2 instances established | instances=2 established=1 bound=0\n")
	d.want(d.cmctl("status", "--json", "--check", "any"), 0)
	d.want(d.cmctl("status", "--check=all"), 2, "check \"all\" has failed: not all instances have a heartbeat connection",
		"CONMGR CRITICAL - not all instances have a heartbeat connection; 1 of 2 instances established | ")
	if r := d.cmctl("status", "--json", "-i", "application", "--check=all"); r.code != 2 ||
		!strings.Contains(r.stdout, `"instances":[]`) {
		t.Errorf("exit status %d: %s", r.code, r.stdout)
	}
	d.want(d.cmctl("status", "--check=most"), 1, "unrecognized check \"most\": must be \"primary\", \"all\" or \"any\"")
}

// cm_ctl stop and restart say what the end of conmgr does to this host's sessions, if there are any.
func TestStopTellsOfSessions(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	t.Setenv(ServerVariable, port)
	d := newDesk(t, "local")
	const notice = "NOTICE: The servers end all SQL sessions of this host now"
	d.want(d.cmctl("start"), 0)
	r := d.cmctl("stop")
	if d.want(r, 0); strings.Contains(r.stdout+r.stderr, notice) {
		t.Errorf("there are no sessions:\n%s", r.stderr)
	}
	d.want(d.cmctl("start"), 0)
	for _, there := range []string{"there is 1 connection to them", "there are 2 connections to them"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		d.want(d.cmctl("restart"), 0, notice, there)
	}
	d.want(d.cmctl("stop"), 0, notice, "there are 2 connections to them")
}

func TestConnectionsToServers(t *testing.T) {
	for network, host := range map[string]string{"tcp4": "127.0.0.1", "tcp6": "::1"} {
		l, err := net.Listen(network, net.JoinHostPort(host, "0"))
		if err != nil {
			t.Logf("no %s on this machine: %v", network, err)
			continue
		}
		defer l.Close()
		to := netip.MustParseAddrPort(l.Addr().String())
		for i := range 3 {
			if got := countConnections([]netip.AddrPort{to}); got != i {
				t.Errorf("%s: %d connections counted, want %d", network, got, i)
			}
			c, err := net.Dial(network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
	}
}
