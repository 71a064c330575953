package libpqtest

// Calls that send something after the loss: none of them may reach the server, whoever notices the loss first.

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/libpq/test/fakeconmgr"
)

// What each gives when PQcmSocket() has become readable and the front's thread has not come to it yet. PQsendQuery follows, and fails.
var sending = map[string]string{
	"PQexec":                      "gave PGRES_FATAL_ERROR status bad",
	"PQexecParams":                "gave PGRES_FATAL_ERROR status bad",
	"PQprepare":                   "gave PGRES_FATAL_ERROR status bad",
	"PQsendQuery":                 "gave 0 status bad message no connection to the server",
	"PQsendQueryParams":           "gave 0 status bad message no connection to the server",
	"PQpipelineSync":              "gave 0 status bad",
	"PQsendFlushRequest":          "gave 0 status bad",
	"PQflush":                     "gave -1 status bad",
	"PQputCopyData":               "gave -1 status bad",
	"PQputCopyData of small rows": "gave -1 status bad",
	"PQputCopyEnd":                "gave -1 status bad",
	"PQsetClientEncoding":         "gave -1 status bad",
	"PQconsumeInput":              "gave 0 status bad",
	"lo_open":                     "gave -1 status bad",
}

func TestNothingIsSentAfterConmgrsWord(t *testing.T) {
	sql(t, primary, "create table late(who text)")
	for call, want := range sending {
		for name, lose := range map[string]func(*fakeconmgr.Server){
			"instance": func(cm *fakeconmgr.Server) { cm.Lose("0", why) },
			"conmgr":   func(cm *fakeconmgr.Server) { cm.Close() },
		} {
			t.Run(call+"/"+name, func(t *testing.T) {
				cm := conmgr(t)
				c := converse(t, byPath(), "late", call, dsn(cm.Port(), "target_session_attrs=primary"))
				c.until("ready")
				lose(cm)
				out := c.rest()
				lost := "lost the server at \"localhost\" (127.0.0.1), port " + primary.port + ": " + why
				if name == "conmgr" {
					lost = "lost the Connection Manager at"
				}
				if !strings.Contains(want, "message") {
					want += " message server closed the connection unexpectedly"
				}
				wantAll(t, out, want, "gave 0 status bad message no connection to the server", "finished")
				if n := strings.Count(out, lost); n != 2 {
					t.Errorf("%d messages of two tell of the loss:\n%s", n, out)
				}
			})
		}
	}
	if got := sql(t, primary, "select string_agg(distinct who, ', ') from late"); got != "" {
		t.Errorf("executed after conmgr's word: %s", got)
	}
}

// PQputCopyEnd comes after the loss, or the loss while its answer is awaited.
func TestEndOfCopyOnALoss(t *testing.T) {
	for how, want := range map[string][]string{
		"copyend":     {"PQputCopyEnd: -1 status bad", "PQgetResult: result PGRES_FATAL_ERROR sqlstate none status bad", "then nothing"},
		"copyendwait": {"PQputCopyEnd: 1 status ok", "PQgetResult: result PGRES_FATAL_ERROR sqlstate none status bad", "then nothing"},
	} {
		t.Run(how, func(t *testing.T) {
			cm := conmgr(t)
			c := converse(t, byPath(), "waits", how, dsn(cm.Port(), "target_session_attrs=primary application_name="+how))
			before := c.until("ready")
			if how == "copyendwait" {
				waitSQL(t, primary, fmt.Sprintf("select count(*) > 0 from pg_stat_activity where application_name = '%s' and wait_event = 'PgSleep'", how))
			}
			cm.Lose("0", why)
			out := before + c.rest()
			wantAll(t, out, want...)
			wantAll(t, out, later...)
			wantAll(t, out, "lost the server at", why)
		})
	}
}
