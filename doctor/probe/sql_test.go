package probe

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgwatchdog/watchdog/doctor"
)

// Whatever a connection string says, it is this instance that is asked.
func TestTowards(t *testing.T) {
	to := netip.MustParseAddrPort("192.0.2.1:5433")
	for conninfo, user := range map[string]string{
		"user=a dbname=x": "a", "user=a host=elsewhere port=1 hostaddr=9.9.9.9 target_session_attrs=standby gssencmode=disable": "a",
		"postgresql://b@elsewhere:1/x?host=other&port=2": "b", "postgres://b:secret@/x": "b", "postgres://b@h1:1,[fe80::1]:2/x": "b",
		"postgres://b:s%40t@h1:1,h2?target_session_attrs=read-write": "b", "user='it''s' dbname=x": "",
	} {
		c, err := towards(conninfo, "db'0", to)
		if user == "" {
			continue // whether that is a connection string is pgx's to say
		}
		if err != nil || c.User != user || c.Host != "db'0" || c.Port != 5433 || c.RuntimeParams["hostaddr"] != "" || c.RuntimeParams["gssencmode"] != "" {
			t.Errorf("%q: %+v, %v", conninfo, c, err)
			continue
		}
		if a, err := c.LookupFunc(t.Context(), c.Host); err != nil || len(a) != 1 || a[0] != "192.0.2.1" {
			t.Errorf("%q: %v, %v", conninfo, a, err)
		}
	}
	// a name is that of a database, and a service file is read as libpq reads it
	if c, err := towards("some db's", "db0", to); err != nil || c.Database != "some db's" || c.Host != "db0" {
		t.Errorf("a name: %+v, %v", c, err)
	}
	file := filepath.Join(t.TempDir(), "services")
	if err := os.WriteFile(file, []byte("[mine]\nuser=c\ndbname=y\nhost=elsewhere\nport=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGSERVICEFILE", file)
	t.Setenv("PGSERVICE", "mine")
	if c, err := towards("", "db0", to); err != nil || c.User != "c" || c.Database != "y" || c.Host != "db0" || c.Port != 5433 {
		t.Errorf("a service: %+v, %v", c, err)
	}
	t.Setenv("PGSERVICE", "another")
	if c, err := towards("", "db0", to); err == nil {
		t.Errorf("a service that is not there: %+v", c)
	}
	t.Setenv("PGSERVICE", "")
	if _, err := towards("user=a sslmode=nonsense", "db0", to); err == nil {
		t.Error("accepted")
	}
}

func TestRows(t *testing.T) {
	var r doctor.Row
	for column, value := range map[string]string{"check": "slots", "status": "warning", "detail": "few", "advice": "more", "later": "x"} {
		r.Set(column, value)
	}
	if r != (doctor.Row{Check: "slots", Level: "warning", Text: "few", Advice: "more"}) {
		t.Errorf("%+v", r)
	}
}
