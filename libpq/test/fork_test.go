package libpqtest

import "testing"

// A child that ends or resets what it has inherited ends its parent's session, as with libpq,
// unless the connection goes by way of conmgr.
func TestForkWithoutConmgr(t *testing.T) {
	cm := conmgr(t)
	for _, how := range []string{"ends", "resets"} {
		for name, conninfo := range map[string]string{"TCP": dsn(primary.port, ""),
			"a Unix socket": "host=" + primary.SocketDir + " user=postgres dbname=postgres port=" + primary.port} {
			want := output(t, plain(), "forks", how, conninfo)
			wantAll(t, want, "PGRES_FATAL_ERROR, not connected")
			if got := output(t, byPath(), "forks", how, conninfo); got != want {
				t.Errorf("%s, %s: %s with libpq %s", how, name, got, want)
			}
		}
		if got := output(t, byPath(), "forks", how, dsn(cm.Port(), "")); got != "PGRES_TUPLES_OK, connected\n" {
			t.Errorf("%s, by way of conmgr: %s", how, got)
		}
	}
}
