//go:build monitoring

package monitoring

// The page in a headless Chromium, which is driven by its debugging protocol over a pipe: a cut is seen
// on it within a second of the verdict, nothing comes from elsewhere, and it can be read on a phone.

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// browser is a Chromium with one page.
type browser struct {
	*testing.T
	to       io.Writer
	answers  chan message
	id       int
	session  string
	requests []string // all URLs that were asked for
	errors   []string // of the page's script
}

type message struct {
	ID     int
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  *struct{ Message string }
}

func newBrowser(t *testing.T, host *testnet.Host) *browser {
	t.Helper()
	theirs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dir := owned(t)
	cmd := host.CommandWith(context.Background(), testnet.Options{UID: nobody, GID: nobody}, "chromium", "--headless=new", "--no-sandbox",
		"--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--remote-debugging-pipe",
		"--user-data-dir="+dir, "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir)
	cmd.ExtraFiles = []*os.File{theirs, out}
	run(t, cmd)
	theirs.Close()
	out.Close()
	b := &browser{T: t, to: to, answers: make(chan message, 10000)}
	t.Cleanup(func() { to.Close(); from.Close() })
	go func() {
		defer close(b.answers)
		in := bufio.NewReaderSize(from, 1<<20)
		for {
			line, err := in.ReadBytes(0)
			if err != nil {
				return
			}
			var m message
			if json.Unmarshal(line[:len(line)-1], &m) == nil {
				b.answers <- m
			}
		}
	}()
	var target struct{ TargetID string }
	b.do("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Network", "Runtime"} {
		b.do(domain+".enable", nil, nil)
	}
	return b
}

// do is one command of the protocol, and its answer. What is told meanwhile is noted.
func (b *browser) do(method string, params map[string]any, into any) {
	b.Helper()
	b.id++
	m := map[string]any{"id": b.id, "method": method, "params": params}
	if params == nil {
		m["params"] = map[string]any{}
	}
	if b.session != "" {
		m["sessionId"] = b.session
	}
	text, err := json.Marshal(m)
	if err == nil {
		_, err = b.to.Write(append(text, 0))
	}
	if err != nil {
		b.Fatal(err)
	}
	limit := time.After(patience)
	for {
		select {
		case a, ok := <-b.answers:
			switch {
			case !ok:
				b.Fatal("Chromium has ended")
			case a.Method == "Network.requestWillBeSent":
				var p struct{ Request struct{ URL string } }
				_ = json.Unmarshal(a.Params, &p)
				b.requests = append(b.requests, p.Request.URL)
			case a.Method == "Runtime.exceptionThrown":
				b.errors = append(b.errors, string(a.Params))
			case a.ID == b.id && a.Error != nil:
				b.Fatalf("%s: %s", method, a.Error.Message)
			case a.ID == b.id:
				if into != nil {
					if err := json.Unmarshal(a.Result, into); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
		case <-limit:
			b.Fatalf("%s: no answer", method)
		}
	}
}

// eval is the value of an expression of the page.
func (b *browser) eval(expr string) string {
	b.Helper()
	var a struct {
		Result           struct{ Value any }
		ExceptionDetails any
	}
	b.do("Runtime.evaluate", map[string]any{"expression": expr, "returnByValue": true}, &a)
	if a.ExceptionDetails != nil {
		b.Fatalf("%s: %v", expr, a.ExceptionDetails)
	}
	return fmt.Sprint(a.Result.Value)
}

// shows waits until an expression of the page is true, and returns when.
func (b *browser) shows(what, expr string) time.Duration {
	b.Helper()
	testkit.Eventually(b, patience, what, func() (bool, string) { return b.eval(expr) == "true", b.eval("document.body.innerText") })
	return testnet.Monotonic()
}

// shot takes a screenshot of the whole page at a width, for people to look at.
func (b *browser) shot(width int, mobile bool) {
	b.Helper()
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": mobile}, nil)
	b.shows("the layout", fmt.Sprintf("window.innerWidth === %d", width))
	var a struct{ Data string }
	b.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &a)
	png, err := base64.StdEncoding.DecodeString(a.Data)
	if err != nil || len(png) < 5000 {
		b.Fatalf("screenshot of %d bytes, %v", len(png), err)
	}
	dir := "../../build/monitoring"
	if err := os.MkdirAll(dir, 0o755); err == nil {
		err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("page-%d.png", width)), png, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
	if wide := b.eval("document.documentElement.scrollWidth <= window.innerWidth"); wide != "true" {
		b.Errorf("at %d pixels the page is wider than the screen: %s", width, b.eval("document.documentElement.scrollWidth"))
	}
	if small := b.eval(`[...document.querySelectorAll("dd, dt, td, li, h3, p")].filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length`); small != "0" {
		b.Errorf("at %d pixels %s texts are smaller than 12 pixels", width, small)
	}
}

// holdStreams opens pages until there is room for no more. release closes them.
func holdStreams(t *testing.T, host *testnet.Host, url string) (release func()) {
	t.Helper()
	web := clientIn(host)
	web.Timeout = 0
	var held []io.Closer
	release = func() {
		for _, c := range held {
			_ = c.Close()
		}
	}
	t.Cleanup(release)
	testkit.Eventually(t, patience, "there are too many pages", func() (bool, string) {
		a, err := web.Get(url)
		if err != nil {
			return false, err.Error()
		}
		held = append(held, a.Body)
		return a.StatusCode == http.StatusServiceUnavailable, a.Status
	})
	return release
}

func TestPage(t *testing.T) {
	needs(t, "chromium")
	w := newWorld(t, "")
	w.cm.Bind("read-write")
	db := w.primary.Open(w.client, "application_name=<b>accounts</b>")
	defer db.Close()
	b := newBrowser(t, w.client)
	url := fmt.Sprintf("http://127.0.0.1:%d/", httpPort)
	b.do("Page.navigate", map[string]any{"url": url}, nil)
	const lost = `document.querySelector('.card.lost[data-instance="0"]') !== null`
	b.shows("two instances are established", `document.querySelectorAll(".card.established").length === 2`)
	b.shows("round trips", `[...document.querySelectorAll("dd")].some(e => /^[0-9.]+ (µs|ms), jitter/.test(e.textContent))`)
	b.shows("an application is bound", `document.getElementById("applications").innerText.includes("read-write")`)
	b.shot(390, true)
	b.shot(1280, false)

	mark, stalls := w.cm.Mark(), testkit.WatchStalls()
	cut := w.net.Cut(w.client, w.db0)
	seen := b.shows("the loss", lost)
	stall := stalls.Longest()
	verdict := w.cm.WaitLog(mark, `instance 0 .* is lost`, patience).At
	t.Logf("the page shows the loss %v after the verdict", seen-verdict)
	if seen-verdict > time.Second+stall {
		t.Errorf("the page shows the loss %v after the verdict; the machine stood still for %v", seen-verdict, stall)
	}
	b.shows("the event", `document.querySelector("#events .lost-event") !== null`)
	b.shows("no primary", `document.getElementById("summary").innerText.includes("no primary")`)
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true}, nil)
	b.shot(390, true)
	cut.Heal()
	b.shows("it is back", `document.querySelectorAll(".card.established").length === 2`)

	// A conmgr that is gone is seen, and the page comes back by itself with the next one.
	w.cm.Restart(15)
	b.shows("the next conmgr", `!document.body.classList.contains("stale") && document.querySelectorAll(".card.established").length === 2`)
	// Nor does it need somebody who loads it again where too many pages were open for a while.
	b.do("Page.navigate", map[string]any{"url": "about:blank"}, nil)
	release := holdStreams(t, w.client, url+"stream")
	b.do("Page.navigate", map[string]any{"url": url}, nil)
	b.shows("that there are too many pages", `document.body.classList.contains("stale")`)
	release()
	b.shows("the set again", `!document.body.classList.contains("stale") && document.querySelectorAll(".card.established").length === 2`)
	for _, r := range b.requests {
		if !strings.HasPrefix(r, url) && !strings.HasPrefix(r, "data:") && r != "about:blank" {
			t.Errorf("the page asks %s", r)
		}
	}
	if len(b.errors) > 0 {
		t.Errorf("errors of the script: %q", b.errors)
	}
}
