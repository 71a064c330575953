package libpqtest

// Calls that send something after the loss: none of them may reach the server.

import (
	"fmt"
	"strings"
	"testing"
)

// What each gives when PQcmSocket() has become readable: what it gives on a connection that was
// reset. The error comes with the result, if not at once; then PQsendQuery fails.
var sending = map[string]string{
	"PQexec":                      "gave PGRES_FATAL_ERROR status bad",
	"PQexecParams":                "gave PGRES_FATAL_ERROR status bad",
	"PQprepare":                   "gave PGRES_FATAL_ERROR status bad",
	"PQsendQuery":                 "gave 1 status ok",
	"PQsendQueryParams":           "gave 1 status ok",
	"PQpipelineSync":              "gave 1 status ok",
	"PQsendFlushRequest":          "gave 1 status ok",
	"PQflush":                     "gave 0 status ok",
	"PQputCopyData":               "gave 1 status ok",
	"PQputCopyData of small rows": "gave -1 status bad",
	"PQputCopyEnd":                "gave 1 status ok",
	"PQsetClientEncoding":         "gave -1 status bad",
	"PQconsumeInput":              "gave 0 status bad",
	"lo_open":                     "gave -1 status bad",
}

// looksFirst tells whether libpq looks at what the server has said before it gives up sending, as it
// did before 15: the call that sends has the error then.
func looksFirst(t *testing.T) bool { return libpqVersion(t) < 15 }

// What that gives.
var sendingBefore15 = map[string]string{
	"PQexec":            "gave none status bad",
	"PQexecParams":      "gave none status bad",
	"PQprepare":         "gave none status bad",
	"PQsendQuery":       "gave 0 status bad",
	"PQsendQueryParams": "gave 0 status bad",
	"PQpipelineSync":    "gave 0 status bad",
	"PQputCopyData":     "gave -1 status bad",
	"PQputCopyEnd":      "gave -1 status bad",
}

func TestNothingIsSentAfterConmgrsWord(t *testing.T) {
	sql(t, primary, "create table if not exists late(who text)")
	for call, want := range sending {
		if lacksPipelines(t, call) {
			continue
		}
		if other, differs := sendingBefore15[call]; differs && looksFirst(t) {
			want = other
		}
		for name, lose := range map[string]func(*manager){
			"instance": func(cm *manager) { cm.Lose(0) },
			"conmgr":   (*manager).endForGood,
		} {
			t.Run(call+"/"+name, func(t *testing.T) {
				cm := conmgr(t)
				c := converse(t, byPath(), "late", call, dsn(cm.Port(), "target_session_attrs=primary"))
				c.until("ready")
				lose(cm)
				out := c.rest()
				lost := "lost the server at \"localhost\" (127.0.0.1), port " + primary.port + ": " + whyOf(primary.port)
				if name == "conmgr" {
					lost = "lost the Connection Manager at"
				}
				wantAll(t, out, want, "message server closed the connection unexpectedly",
					"gave 0 status bad message no connection to the server", "finished")
				// which ends in a PQputCopyEnd that gives -1
				if strings.Contains(want, "status ok") && call != "PQputCopyData" && !looksFirst(t) {
					wantAll(t, out, "gave PGRES_FATAL_ERROR status bad")
				}
				if n := strings.Count(out, lost); n < 2 {
					t.Errorf("%d messages tell of the loss, not that of the error and the last one:\n%s", n, out)
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
	first := "PQputCopyEnd: 1 status ok"
	if looksFirst(t) {
		first = "PQputCopyEnd: -1 status bad"
	}
	for how, want := range map[string][]string{
		"copyend": {first, "PQgetResult: result PGRES_FATAL_ERROR sqlstate none status bad",
			"then nothing"},
		"copyendwait": {"PQputCopyEnd: 1 status ok", "PQgetResult: result PGRES_FATAL_ERROR sqlstate none status bad",
			"then nothing"},
	} {
		t.Run(how, func(t *testing.T) {
			cm := conmgr(t)
			c := converse(t, byPath(), "waits", how, dsn(cm.Port(),
				"target_session_attrs=primary application_name="+how))
			before := c.until("ready")
			if how == "copyendwait" {
				waitSQL(t, primary, fmt.Sprintf("select count(*) > 0 from pg_stat_activity where application_name = '%s' and wait_event = 'PgSleep'", how))
			}
			cm.Lose(0)
			out := before + c.rest()
			wantAll(t, out, want...)
			wantAll(t, out, later...)
			wantAll(t, out, "lost the server at", why)
		})
	}
}
