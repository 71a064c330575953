package driver

// The rule by which a peer is believed, for what the kernel may say. What it does say is tried in
// internal/sockowner, and with a real impostor in driver/internal/suite.

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/sockowner"
)

func TestBelieved(t *testing.T) {
	me := uint32(os.Geteuid())
	unknown := owner{err: fmt.Errorf("%w: elsewhere", sockowner.ErrUnknown)}
	gone := owner{err: sockowner.ErrGone}
	for name, c := range map[string]struct {
		owner        owner
		asker        Asker
		users, hosts string
		want         string // of the error
	}{
		"root":                  {owner: owner{uid: 0}},
		"this user":             {owner: owner{uid: me}},
		"another user":          {owner: owner{uid: 4711}, want: `user ID 4711, who is not trusted`},
		"a user with a name":    {owner: owner{uid: 1}, want: `user "daemon" (user ID 1), who is not trusted`},
		"listed by number":      {owner: owner{uid: 4711}, users: "x, 4711"},
		"listed by name":        {owner: owner{uid: 1}, users: "daemon"},
		"another one is listed": {owner: owner{uid: 1}, users: "bin,2,471", want: "who is not trusted"},
		"nobody":                {owner: owner{uid: 65534}, want: "which may be anybody's"},
		"nobody, listed":        {owner: owner{uid: 65534}, users: "nobody,65534", want: "PGCMUSER to *"},
		"nobody, all are":       {owner: owner{uid: 65534}, users: "a,*"},
		"a user of no number":   {owner: owner{uid: 1<<32 - 1}, users: "4294967295", want: "who is not trusted"},
		"gone":                  {owner: gone, want: "has closed the connection"},
		"unknown":               {owner: unknown},
		"unknown, require":      {owner: unknown, asker: Asker{SSLMode: "require"}},
		"unknown, verify-ca":    {owner: unknown, asker: Asker{SSLMode: "verify-ca"}, want: "elsewhere"},
		"unknown, verify-ca, pins": {owner: unknown, asker: Asker{SSLMode: "verify-ca"}, hosts: "db",
			want: "host=DIRECTORY), or set"},
		"unknown, verify-full":      {owner: unknown, asker: Asker{SSLMode: "verify-full"}, want: "PGCMHOSTS"},
		"unknown, verify-full, pin": {owner: unknown, asker: Asker{SSLMode: "verify-full"}, hosts: "db"},
		"unknown, empty pins": {owner: unknown, asker: Asker{SSLMode: "verify-full"}, hosts: " , ",
			want: "PGCMHOSTS"},
		"unknown, all are trusted": {owner: unknown, asker: Asker{SSLMode: "verify-full"}, users: "*"},
		"a socket of another user": {owner: owner{uid: 1, local: true}, want: "use requirepeer"},
		"requirepeer":              {owner: owner{uid: 1, local: true}, asker: Asker{RequirePeer: "daemon"}},
		"requirepeer, by TCP": {owner: owner{uid: 1}, asker: Asker{RequirePeer: "daemon"},
			want: "who is not trusted"},
		"another requirepeer": {owner: owner{uid: 1, local: true}, asker: Asker{RequirePeer: "bin"}, users: "*",
			want: `requirepeer specifies "bin"`},
	} {
		t.Setenv("PGCMUSER", c.users)
		t.Setenv("PGCMHOSTS", c.hosts)
		err := c.asker.believed(c.owner)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestZeroFree(t *testing.T) {
	err := ZeroFree("password", "secret\x00")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error without the password", err)
	}
	if _, err := ParseConfig("postgres://u:secret%00@h/d"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error without the password", err)
	}
	if _, err := ParseConfig("postgres://alice@h/db%00user%00boss"); err == nil ||
		!strings.Contains(err.Error(), "forbidden value %00") {
		t.Errorf("got %v, want libpq's words", err)
	}
	if _, err := NewConfig(map[string]string{"host": "h", "options": "-c a=b\x00user\x00boss"}); err == nil {
		t.Error("a setting with a zero byte was accepted")
	}
}
