package conmgr

// Tests of what is told by HTTP: health checks, metrics, /status, the page and its stream.

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	hb "github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// withHTTP opens http_port, and a health_port of each of so many instances.
func withHTTP(t *testing.T, health int) func(*rig) {
	return func(r *rig) {
		ports, err := testkit.FreePorts(1 + health)
		if err != nil {
			t.Fatal(err)
		}
		r.conf.HTTPPort, r.conf.HTTPAddresses = ports[0], []string{"127.0.0.1"}
		for i := range health {
			r.conf.Instances[i].HealthPort = ports[1+i]
		}
	}
}

// url is that of a path on the n-th port: http_port, then each health_port.
func (r *rig) url(n int, path string) string {
	return "http://" + r.d.watching.web.Addr(n).String() + path
}

var httpClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

// ask is the status of a request and what it is answered.
func ask(t *testing.T, method, url string) (code int, body string, header http.Header) {
	t.Helper()
	q, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := httpClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(b), a.Header
}

// bare sends a request line alone, as HAProxy does.
func bare(t *testing.T, addr net.Addr, line string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "%s\r\n\r\n", line)
	b, _ := io.ReadAll(c) // what is too long is answered with a reset behind it
	return string(b)
}

// Each path on the health ports of a primary, a standby and a lost instance.
func TestHealth(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 3), primary, standby, standby)
	r.lag(1, hb.Lag{Known: true, Bytes: 1 << 20, Time: 3 * time.Second})
	r.lose(2)
	r.waitState(2, hb.Lost)
	for path, want := range map[string][3]int{
		"/":                         {200, 503, 503},
		"/primary":                  {200, 503, 503},
		"/master":                   {200, 503, 503},
		"/leader":                   {200, 503, 503},
		"/read-write":               {200, 503, 503},
		"/replica":                  {503, 200, 503},
		"/standby":                  {503, 200, 503},
		"/async":                    {503, 200, 503},
		"/asynchronous":             {503, 200, 503},
		"/read-only":                {200, 200, 503},
		"/health":                   {200, 200, 503},
		"/readiness":                {200, 200, 503},
		"/readiness?lag=1MB":        {200, 200, 503},
		"/readiness?lag=1kB":        {200, 503, 503},
		"/liveness":                 {200, 200, 200},
		"/standby-leader":           {503, 503, 503},
		"/sync":                     {503, 503, 503},
		"/quorum":                   {503, 503, 503},
		"/replica?lag=1048576":      {503, 200, 503},
		"/replica?lag=1MB":          {503, 200, 503},
		"/replica?lag=1023kB":       {503, 503, 503},
		"/replica?lag=1048575":      {503, 503, 503},
		"/replica?lag=3s":           {503, 200, 503},
		"/replica?lag=2s":           {503, 503, 503},
		"/read-only?lag=1kB":        {200, 503, 503},
		"/primary?lag=0":            {200, 503, 503},
		"/replica?lag=much":         {400, 400, 400},
		"/replica?lag=0":            {503, 503, 503},
		"/metrics":                  {404, 404, 404}, // a health port has no more than that
		"/status":                   {404, 404, 404},
		"/primary/":                 {404, 404, 404}, // never 2xx, which HAProxy takes for health, whatever the method
		"/patroni":                  {404, 404, 404},
		"/primary?tag_a=b":          {200, 503, 503},
		"/replica?tag_a=b&lag=10MB": {503, 200, 503},
	} {
		for i, code := range want {
			for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
				got, body, _ := ask(t, method, r.url(1+i, path))
				if got != code || method == "HEAD" && body != "" || method == "OPTIONS" && code != 404 && body != "" {
					t.Errorf("%s %s of instance %d: %d, want %d: %s", method, path, i, got, code, body)
				}
			}
		}
	}
	_, body, header := ask(t, "GET", r.url(2, "/primary"))
	if want := `{"state":"running","role":"replica","timeline":1,"why":"it is used for`; !strings.HasPrefix(body, want) ||
		header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s, %v", body, header)
	}
	if _, body, _ := ask(t, "GET", r.url(3, "/health")); !strings.Contains(body, `"state":"lost"`) ||
		!strings.Contains(body, "no heartbeat for 2003 ms") {
		t.Errorf("of a lost one: %s", body)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		if code, _, h := ask(t, method, r.url(1, "/primary")); code != 405 || h.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: %d, %v", method, code, h)
		}
	}
}

// On http_port a check has to say which instance it is about: else no primary is confirmed by it.
func TestHealthOfWhich(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 0), primary, standby) // 127.0.0.1 and 127.0.0.2
	for path, want := range map[string]int{
		"/primary":                     200, // it comes to the primary's address
		"/primary?instance=0":          200,
		"/primary?instance=1":          503,
		"/replica?instance=1":          200,
		"/replica?instance=2":          503,
		"/replica?instance=x":          503,
		"/primary?instance=any":        200,
		"/standby-leader?instance=any": 503,
		"/health":                      200,
		"/liveness":                    200,
		"/readiness":                   200,
		"/":                            200, // the page
		"/primary/x":                   404,
	} {
		if code, body, _ := ask(t, "GET", r.url(0, path)); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, body)
		}
	}
	addr := r.d.watching.web.Addr(0)
	for line, want := range map[string]string{
		"OPTIONS / HTTP/1.0": "HTTP/1.0 200", // of the primary, at whose address it comes
		"GET / HTTP/1.0":     "HTTP/1.0 200",
		"HEAD / HTTP/1.0":    "HTTP/1.0 200",
	} {
		if got := bare(t, addr, line); !strings.HasPrefix(got, want) || strings.Contains(got, "<html") {
			t.Errorf("%s: %s", line, got)
		}
	}
	r.lose(0)
	r.waitState(0, hb.Lost)
	for _, line := range []string{"OPTIONS / HTTP/1.0", "GET / HTTP/1.0", "HEAD / HTTP/1.0", "OPTIONS /primary HTTP/1.0"} {
		if got := bare(t, addr, line); !strings.HasPrefix(got, "HTTP/1.0 503") {
			t.Errorf("%s of a lost one: %s", line, got)
		}
	}
	if code, body, _ := ask(t, "GET", r.url(0, "/")); code != 200 || !strings.Contains(body, "<html") {
		t.Errorf("the page: %d, %s", code, body)
	}
}

// Two instances at one address: a check there is about neither, and no primary.
func TestHealthIsAmbiguous(t *testing.T) {
	r := staticWith(t, "backend_hostaddr2 = 127.0.0.1\nbackend_port2 = 1\nwatchdog_port2 = 2\n", withHTTP(t, 0), primary, standby)
	for path, want := range map[string]int{"/primary": 503, "/replica": 503, "/read-only": 503, "/liveness": 200, "/health": 200} {
		code, body, _ := ask(t, "GET", r.url(0, path))
		if code != want || want == 503 && !strings.Contains(body, "which instance is asked about?") {
			t.Errorf("%s: %d, want %d: %s", path, code, want, body)
		}
	}
	if got := bare(t, r.d.watching.web.Addr(0), "OPTIONS / HTTP/1.0"); !strings.HasPrefix(got, "HTTP/1.0 503") {
		t.Error(got)
	}
}

// A drained instance is to get nothing new.
func TestHealthOfADrain(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 2), primary, standby)
	r.connect().query("drain instance 1")
	if code, body, _ := ask(t, "GET", r.url(2, "/replica")); code != 503 || !strings.Contains(body, "draining") {
		t.Errorf("%d: %s", code, body)
	}
	if code, _, _ := ask(t, "GET", r.url(2, "/health")); code != 200 {
		t.Errorf("it is up: %d", code)
	}
}

func TestMetrics(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 0), primary, standby)
	r.connect().query("show target read-write")
	r.connect().refusal("show target standby except 1")
	r.d.watching.metrics.Meter.Measured(&r.conf.Instances[0], 3*time.Millisecond)
	r.d.watching.metrics.Meter.Measured(&r.conf.Instances[0], 19*time.Millisecond)
	scrape := func() string {
		t.Helper()
		code, body, _ := ask(t, "GET", r.url(0, "/metrics"))
		if code != 200 {
			t.Fatalf("%d: %s", code, body)
		}
		return body
	}
	body := scrape()
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	has := func(body string, lines ...string) {
		t.Helper()
		for _, l := range lines {
			if !strings.Contains(body, "\n"+l+"\n") {
				t.Errorf("no %q in\n%s", l, body)
			}
		}
	}
	has(body, "conmgr_up 1",
		`conmgr_instance_state{host="127.0.0.1",instance="0",state="established"} 1`,
		`conmgr_instance_state{host="127.0.0.1",instance="0",state="lost"} 0`,
		`conmgr_instance_role{host="127.0.0.2",instance="1",role="standby"} 1`,
		`conmgr_instance_offered{attribute="read-write",host="127.0.0.1",instance="0"} 1`,
		`conmgr_instance_offered{attribute="read-write",host="127.0.0.2",instance="1"} 0`,
		`conmgr_instance_losses_total{host="127.0.0.1",instance="0",reason="silence"} 0`,
		`conmgr_bound_connections{host="127.0.0.1",instance="0"} 1`,
		`conmgr_targets_total{attribute="read-write",result="found"} 1`,
		`conmgr_targets_total{attribute="standby",result="none"} 1`,
		`conmgr_targets_total{attribute="standby",result="found"} 0`,
		`conmgr_heartbeat_rtt_seconds_count{host="127.0.0.1",instance="0"} 2`,
		`conmgr_heartbeat_rtt_seconds_bucket{host="127.0.0.1",instance="0",le="0.005"} 1`,
		`conmgr_heartbeat_jitter_seconds{host="127.0.0.1",instance="0"} 0.001`,
		`conmgr_primary_present 1`,
		`watchdog_in_recovery{host="127.0.0.2",instance="1"} 1`,
		`watchdog_timeline{host="127.0.0.1",instance="0"} 1`)
	r.lose(0)
	r.waitState(0, hb.Lost)
	eventually(t, "the application is told", func() bool { return r.d.registry.BoundTo(0) == 0 })
	body = scrape()
	has(body, `conmgr_instance_state{host="127.0.0.1",instance="0",state="lost"} 1`,
		`conmgr_instance_state{host="127.0.0.1",instance="0",state="established"} 0`,
		`conmgr_applications_told_total{host="127.0.0.1",how="loss",instance="0"} 1`,
		`conmgr_bound_connections{host="127.0.0.1",instance="0"} 0`,
		`conmgr_primary_present 0`)
	if strings.Contains(body, `watchdog_timeline{host="127.0.0.1"`) {
		t.Error("what a lost instance has said is told as if it was now")
	}
}

// What comes from the heartbeats themselves: round trips, losses, connects.
func TestMetricsOfHeartbeats(t *testing.T) {
	w := newWatchdog(t, "127.0.0.1:0")
	r := newRig(t, quick+"heartbeat_timeout = 1s\n"+instanceConf(0, w.port()), withHTTP(t, 0))
	c := w.next()
	a := c.answer(1, 7, primary)
	a.Version = 2
	c.send(a.Append(nil))
	r.waitState(0, hb.Established)
	b, err := hb.ParseConmgrBeat(c.frame().Payload, 2)
	if err != nil {
		t.Fatal(err)
	}
	c.send(hb.WatchdogBeat{Sequence: 1, Attributes: primary, Echo: b.Sequence, Held: time.Microsecond}.Append(nil, 2))
	eventually(t, "a round trip", func() bool { return r.d.watching.metrics.Meter.Beats(0).Known })
	r.jump.Store(int64(time.Hour))
	r.waitState(0, hb.Lost)
	eventually(t, "a loss is counted", func() bool {
		_, body, _ := ask(t, "GET", r.url(0, "/metrics"))
		return strings.Contains(body, `conmgr_instance_losses_total{host="127.0.0.1",instance="0",reason="silence"} 1`) &&
			strings.Contains(body, `conmgr_instance_connects_total{host="127.0.0.1",instance="0"} 1`) &&
			strings.Contains(body, `conmgr_heartbeat_rtt_seconds_count{host="127.0.0.1",instance="0"} 1`)
	})
}

func TestStatusDocument(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 0), primary, standby)
	for range 2 {
		r.connect().query("show target read-write")
	}
	code, body, _ := ask(t, "GET", r.url(0, "/status"))
	var d struct {
		Primary   *int
		Instances []struct {
			Instance    int
			State, Role string
			Bound       int
			UsedFor     *string `json:"used_for"`
		}
		Applications []struct {
			Target      string
			Connections int
		}
		Events []struct{ Event, Text string }
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil || code != 200 {
		t.Fatalf("%d, %v: %s", code, err, body)
	}
	if d.Primary == nil || *d.Primary != 0 || len(d.Instances) != 2 || d.Instances[0].Bound != 2 ||
		d.Instances[1].Role != "standby" || d.Instances[1].State != "established" || len(d.Applications) != 1 ||
		d.Applications[0].Connections != 2 || d.Applications[0].Target != "read-write" || len(d.Events) == 0 {
		t.Errorf("got %s", body)
	}
	var all struct{ Instances []map[string]any }
	var documented struct {
		Defs struct{ Instance struct{ Required []string } } `json:"$defs"`
	}
	schema, err := os.ReadFile("../docs/status.schema.json")
	if err = errors.Join(err, json.Unmarshal(schema, &documented), json.Unmarshal([]byte(body), &all)); err != nil {
		t.Fatal(err)
	}
	if len(documented.Defs.Instance.Required) < 20 {
		t.Fatalf("the schema requires of an instance %v", documented.Defs.Instance.Required)
	}
	for _, key := range documented.Defs.Instance.Required {
		if _, told := all.Instances[0][key]; !told {
			t.Errorf("/status does not tell %s of an instance, cm_ctl status --json does", key)
		}
	}
}

// What is not there is not well, by any method: a misspelt check marks no server as up.
func TestOptionsOfNothing(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 1), primary)
	for n := range 2 {
		for _, what := range []string{"*", "/nothing", "/primary/", "/replica/x"} {
			if got := bare(t, r.d.watching.web.Addr(n), "OPTIONS "+what+" HTTP/1.0"); !strings.Contains(got, " 404 ") {
				t.Errorf("port %d, OPTIONS %s: %.100s", n, what, got)
			}
		}
	}
	if code, _, header := ask(t, "OPTIONS", r.url(0, "/metrics")); code != 204 || header.Get("Allow") == "" {
		t.Errorf("OPTIONS /metrics: %d, %v", code, header)
	}
}

// HEAD has the headers of GET.
func TestHead(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 0), primary, standby)
	for _, path := range []string{"/", "/page.js", "/style.css", "/status", "/stream", "/metrics", "/primary?instance=0"} {
		kinds := map[string]string{}
		for _, method := range []string{"GET", "HEAD"} {
			q, err := http.NewRequestWithContext(t.Context(), method, r.url(0, path), http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Accept", "*/*")
			a, err := httpClient.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			_ = a.Body.Close()
			kinds[method] = fmt.Sprintf("%d %s", a.StatusCode, a.Header.Get("Content-Type"))
		}
		if kinds["GET"] != kinds["HEAD"] || !strings.HasPrefix(kinds["GET"], "200 ") {
			t.Errorf("%s: %v", path, kinds)
		}
	}
}

// The page shows a verdict at once, not at the next second.
func TestStreamAtOnce(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 0), primary, standby)
	r.d.watching.web.Tick(time.Hour) // which is not what brings it
	q, err := httpClient.Get(r.url(0, "/stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Body.Close()
	if q.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%v", q.Header)
	}
	in := bufio.NewReader(q.Body)
	next := func() string {
		t.Helper()
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "data: ") {
				return line
			}
		}
	}
	if first := next(); !strings.Contains(first, `"state":"established"`) {
		t.Errorf("first: %s", first)
	}
	for i := range 4 {
		if i%2 == 0 {
			r.lose(0)
		} else {
			r.d.board.Post(0, up(primary), nil)
		}
		for strings.Contains(next(), `"state":"lost"`) != (i%2 == 0) {
		}
	}
	r.d.watching.web.Close() // who looks is not waited for
	_, _ = io.ReadAll(in)    // which ends
}
