//go:build monitoring

package monitoring

// A real Prometheus scrapes conmgr and postgres_exporter through a cut, a promotion and a restart: its
// series tell the story, the dashboard's queries return data, and the alerts fire.

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

func TestPrometheus(t *testing.T) {
	needs(t, "prometheus", "promtool", "prometheus-postgres-exporter")
	promtool(t, "", "check", "rules", filepath.Join(shared, "alerts.yml"))
	w := newWorld(t, "")
	exporter(t, w.primary, 9187)
	exporter(t, w.second, 9187)
	p := newPrometheus(t, w.client, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: conmgr
    static_configs: [{targets: ["127.0.0.1:%d"]}]
  - job_name: watchdog
    static_configs: [{targets: ["%s:9187", "%s:9187"]}]
`, httpPort, w.db0.Addr4, w.second.Host().Addr4))
	begun := time.Now()
	promtool(t, read(t, clientIn(w.client), fmt.Sprintf("http://127.0.0.1:%d/metrics", httpPort)), "check", "metrics")
	p.value(`sum(up)`, 3)
	p.value(`conmgr_primary_present`, 1)
	p.value(`sum(watchdog_conmgrs)`, 2)
	app, db := w.cm.Bind("read-write"), w.primary.Open(w.client, "")
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), "SELECT 1"); err != nil { // a session that will be ended
		t.Fatal(err)
	}
	p.value(`conmgr_bound_connections{exported_instance="0"}`, 1)
	p.value(`watchdog_in_recovery{exported_instance="1"}`, 1)

	cut := w.net.Cut(w.client, w.db0)
	cutAt := time.Now()
	if err := app.Wait(patience); err == nil {
		t.Error("the application was not told")
	}
	p.value(`conmgr_instance_state{exported_instance="0",state="lost"}`, 1)
	testkit.Eventually(t, patience, "the server has ended the session", func() (bool, string) {
		n := w.primary.Value("SELECT terminated_silence FROM pgx_stat_watchdog_totals")
		return n == "1", n
	})
	cut.Heal()
	p.value(`conmgr_instance_state{exported_instance="0",state="established"}`, 1)
	p.value(`conmgr_instance_losses_total{exported_instance="0",reason="silence"}`, 1)
	p.value(`conmgr_applications_told_total{exported_instance="0",how="loss"}`, 1)
	p.value(fmt.Sprintf(`watchdog_sessions_terminated_total{instance="%s:9187",rule="silence"}`, w.db0.Addr4), 1)
	p.value(fmt.Sprintf(`watchdog_verdicts_total{instance="%s:9187",rule="silence"}`, w.db0.Addr4), 1)
	p.fires("ConmgrInstanceLost")
	p.fires("WatchdogSessionsTerminated")
	p.value(`sum(up)`, 3)
	dashboard(p)

	w.primary.Stop(pgtest.Fast)
	p.value(`conmgr_primary_present`, 0)
	w.second.Promote()
	p.value(`conmgr_instance_role{exported_instance="1",role="primary"}`, 1)
	p.value(`conmgr_primary_present`, 1)
	p.value(`watchdog_timeline{exported_instance="1"}`, 2)

	w.second.Restart()
	p.value(`sum(conmgr_instance_losses_total{exported_instance="1",reason=~"restarted|shutdown|stopping"})`, 1)
	p.value(`conmgr_instance_state{exported_instance="1",state="established"}`, 1)
	p.value(`conmgr_instance_offered{exported_instance="1",attribute="read-write"}`, 1)

	// And now as somebody would read it later.
	lost := p.first(`conmgr_instance_state{exported_instance="0",state="lost"}`, 1, cutAt)
	back := p.first(`conmgr_instance_state{exported_instance="0",state="established"}`, 1, time.UnixMilli(int64(lost*1e3)))
	gone := p.first(`conmgr_primary_present`, 0, time.UnixMilli(int64(back*1e3)))
	promoted := p.first(`conmgr_instance_role{exported_instance="1",role="primary"}`, 1, begun)
	if c := float64(cutAt.UnixMilli()) / 1e3; !(c < lost && lost < back && back <= gone && gone <= promoted) {
		t.Errorf("cut %.1f, lost %.1f, back %.1f, no primary %.1f, promoted %.1f", c, lost, back, gone, promoted)
	}
	if at := p.first(`conmgr_bound_connections{exported_instance="0"}`, 0, cutAt); at < float64(cutAt.Unix()) {
		t.Errorf("the application has gone at %.1f", at)
	}
	p.first(`watchdog_in_recovery{exported_instance="1"}`, 1, begun)
	p.first(`watchdog_in_recovery{exported_instance="1"}`, 0, begun)
	p.value(`count(conmgr_heartbeat_rtt_seconds_count > 0)`, 2)
	if all, err := p.query(`histogram_quantile(0.5, sum by (le) (conmgr_heartbeat_rtt_seconds_bucket)) < 0.1`); err != nil || len(all) != 1 {
		t.Errorf("half of the round trips take longer than 100 ms: %v, %v", all, err)
	}
}

// fires waits for an alert.
func (p *prometheus) fires(name string) {
	p.Helper()
	testkit.Eventually(p, patience, "alert "+name, func() (bool, string) {
		var data struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
		err := p.get("alerts", url.Values{}, &data)
		for _, a := range data.Alerts {
			if a.Labels["alertname"] == name && a.State == "firing" {
				return true, ""
			}
		}
		return false, fmt.Sprint(data.Alerts, err)
	})
}

// dashboard sees that each query of the dashboard returns data.
func dashboard(p *prometheus) {
	p.Helper()
	b, err := os.ReadFile(filepath.Join(shared, "grafana-dashboard.json"))
	if err != nil {
		p.Fatal(err)
	}
	var d struct {
		Annotations struct{ List []struct{ Expr string } }
		Panels      []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		p.Fatal(err)
	}
	variables := strings.NewReplacer("$job", "conmgr", "$conmgr", ".+", "$watchdog_job", "watchdog", "$__range", "5m", "$__rate_interval", "30s")
	n := 0
	check := func(title, expr string) {
		p.Helper()
		if strings.Contains(variables.Replace(expr), "$") {
			p.Errorf("%s: a variable that is not known: %s", title, expr)
		}
		n++
		testkit.Eventually(p, patience, title+": "+expr, func() (bool, string) {
			all, err := p.query(variables.Replace(expr))
			return err == nil && len(all) > 0, fmt.Sprint(err)
		})
	}
	for _, a := range d.Annotations.List {
		check("annotation", a.Expr)
	}
	for _, panel := range d.Panels {
		for _, q := range panel.Targets {
			check(panel.Title, q.Expr)
		}
	}
	if n < 20 {
		p.Errorf("%d queries", n)
	}
}
