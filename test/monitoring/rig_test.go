//go:build monitoring

package monitoring

// Programs that look at conmgr and the servers, inside hosts of a testnet.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const (
	patience = 60 * time.Second
	nobody   = cmtest.UID
	httpPort = 8008
)

// shared is a directory of the packaging that is tested.
const shared = "../../packaging/monitoring"

// world is a client host with a conmgr, a primary and its standby.
type world struct {
	*testing.T
	net             *testnet.Net
	client, db0     *testnet.Host
	primary, second *pgtest.Cluster
	cm              *cmtest.Conmgr
}

func newWorld(t *testing.T, extra string) *world {
	t.Helper()
	w := &world{T: t, net: testnet.New(t)}
	w.client, w.db0 = w.net.Host("client"), w.net.Host("db0")
	w.primary = pgtest.New(t, pgtest.Host(w.db0), pgtest.Watchdog())
	w.primary.Exec("CREATE EXTENSION watchdog")
	w.second = w.primary.Standby("second", pgtest.Host(w.net.Host("db1")))
	w.cm = cmtest.Start(t, w.client, cmtest.Config{Interval: "200ms", Timeout: "1s",
		Clusters: []*pgtest.Cluster{w.primary, w.second}, Extra: fmt.Sprintf("http_port = %d\n%s", httpPort, extra)})
	w.cm.WaitInstance(0, "role", "primary")
	w.cm.WaitInstance(1, "role", "standby")
	return w
}

// needs says which package a program is of.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%v\nhint: run 'scripts/deps monitoring'", err)
		}
	}
}

// owned is a new directory of nobody's.
func owned(t *testing.T) string {
	t.Helper()
	dir, err := testkit.TempDir("wdmonitoring")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	return dir
}

// output of a program, for when the test fails.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// run starts a program until the end of the test.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Cancel()
		_ = cmd.Wait()
		if t.Failed() {
			text := out.String()
			t.Logf("%s:\n%s", cmd.Args[len(cmd.Args)-1], text[max(0, len(text)-4000):])
		}
	})
}

// exporter is a postgres_exporter beside a server, with our queries.
func exporter(t *testing.T, c *pgtest.Cluster, port int) {
	t.Helper()
	queries := filepath.Join(owned(t), "queries.yaml")
	b, err := os.ReadFile(filepath.Join(shared, "queries.yaml"))
	if err == nil {
		err = os.WriteFile(queries, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.Host().CommandWith(context.Background(), testnet.Options{UID: nobody, GID: nobody}, "prometheus-postgres-exporter",
		"--disable-default-metrics", "--disable-settings-metrics", "--extend.query-path="+queries,
		fmt.Sprintf("--web.listen-address=:%d", port))
	cmd.Env = append(os.Environ(), fmt.Sprintf("DATA_SOURCE_NAME=postgresql://postgres@%s:%d/postgres?sslmode=disable", c.Addr(), c.Port))
	run(t, cmd)
}

// prometheus is a real one, inside the client host.
type prometheus struct {
	*testing.T
	client *http.Client
}

func newPrometheus(t *testing.T, host *testnet.Host, config string) *prometheus {
	t.Helper()
	dir := owned(t)
	rules, err := os.ReadFile(filepath.Join(shared, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"prometheus.yml": config, "alerts.yml": string(rules)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, host.CommandWith(context.Background(), testnet.Options{UID: nobody, GID: nobody}, "prometheus",
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:9090"))
	return &prometheus{t, clientIn(host)}
}

func clientIn(host *testnet.Host) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: host.Dialer().DialContext}}
}

// series of an answer of Prometheus.
type series struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any
}

func number(v [2]any) (at, value float64) {
	at, _ = v[0].(float64)
	text, _ := v[1].(string)
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		value = -1
	}
	return at, value
}

// get asks its HTTP API.
func (p *prometheus) get(path string, args url.Values, into any) error {
	a, err := p.client.Get("http://127.0.0.1:9090/api/v1/" + path + "?" + args.Encode())
	if err != nil {
		return err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(b, &answer); err != nil || answer.Status != "success" {
		return fmt.Errorf("%s: %v: %s", args.Get("query"), err, b)
	}
	return json.Unmarshal(answer.Data, into)
}

// query is what an expression gives now.
func (p *prometheus) query(expr string) ([]series, error) {
	var data struct{ Result []series }
	err := p.get("query", url.Values{"query": {expr}}, &data)
	return data.Result, err
}

// over is what it was since a time, second by second.
func (p *prometheus) over(expr string, since time.Time) []series {
	p.Helper()
	var data struct{ Result []series }
	if err := p.get("query_range", url.Values{"query": {expr}, "start": {fmt.Sprintf("%.3f", float64(since.UnixMilli())/1e3)},
		"end": {fmt.Sprintf("%.3f", float64(time.Now().UnixMilli())/1e3)}, "step": {"0.5"}}, &data); err != nil {
		p.Fatal(err)
	}
	return data.Result
}

// value waits until an expression of one series has a value.
func (p *prometheus) value(expr string, want float64) {
	p.Helper()
	testkit.Eventually(p, patience, fmt.Sprintf("%s is %v", expr, want), func() (bool, string) {
		all, err := p.query(expr)
		if err != nil || len(all) != 1 {
			return false, fmt.Sprintf("%d series, %v", len(all), err)
		}
		_, v := number(all[0].Value)
		return v == want, fmt.Sprint(v)
	})
}

// first is when an expression of one series first had a value since a time.
func (p *prometheus) first(expr string, want float64, since time.Time) float64 {
	p.Helper()
	all := p.over(expr, since)
	if len(all) != 1 {
		p.Fatalf("%s: %d series", expr, len(all))
	}
	for _, v := range all[0].Values {
		if at, value := number(v); value == want {
			return at
		}
	}
	p.Fatalf("%s was never %v: %v", expr, want, all[0].Values)
	return 0
}

func read(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	a, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != 200 {
		t.Fatalf("%s: %s, %v", url, a.Status, err)
	}
	return string(b)
}

// promtool checks what it is given.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil || stdin != "" && len(out) > 0 {
		t.Errorf("promtool %s: %v: %s", strings.Join(args, " "), err, out)
	}
}
