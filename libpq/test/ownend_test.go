package libpqtest

// What an application reads when conmgr ends in order, beside a server that is well.

import (
	"strings"
	"testing"
)

func TestConmgrsOwnEndIsNoLossOfTheServer(t *testing.T) {
	for _, how := range []string{"exec", "idle"} {
		t.Run(how, func(t *testing.T) {
			cm := conmgr(t)
			c := converse(t, byPath(), "waits", how, dsn(cm.Port(),
				"target_session_attrs=primary application_name=ownend"))
			c.until("ready")
			if how == "exec" {
				waitSQL(t, primary, "select count(*) >= 1 from pg_stat_activity where application_name = 'ownend' and wait_event = 'PgSleep'")
			}
			cm.Shutdown()
			out := c.rest()
			wantAll(t, out, `lost the Connection Manager at "localhost", port `+cm.Port()+": the Connection Manager is shutting down")
			if strings.Contains(out, "lost the server") {
				t.Errorf("the server is well:\n%s", out)
			}
		})
	}
}
