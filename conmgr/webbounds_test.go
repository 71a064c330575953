package conmgr

// Tests of what keeps one who asks by HTTP from being in the way of others.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Nobody can hold more than his share: connections are bounded, and so are headers and pages.
func TestHTTPIsBounded(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 0), primary)
	addr := r.d.watching.web.Addr(0).String()
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	// Who asks for nothing, or does not come to an end, is closed for who asks.
	for _, begun := range []string{"", "GET /sta", "GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n", "POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"} {
		for range 64 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
			fmt.Fprint(c, begun)
		}
		if got := bare(t, r.d.watching.web.Addr(0), "OPTIONS /liveness HTTP/1.0"); !strings.Contains(got, " 200 ") {
			t.Errorf("beside 64 connections that have sent %q: %.100s", begun, got)
		}
	}
	held[0].SetDeadline(time.Now().Add(patience))
	if _, err := held[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the first one is open: %v", err)
	}
	eventually(t, "the log tells", func() bool { return r.logged("there are 64 connections already") > 0 })
	if got := bare(t, r.d.watching.web.Addr(0), "GET /status HTTP/1.0\r\nX: "+strings.Repeat("x", 20<<10)); got != "" && !strings.Contains(got, " 431 ") {
		t.Errorf("a long header: %.100s", got)
	}
	var pages []io.Closer
	for range 32 {
		a, err := http.Get(r.url(0, "/stream"))
		if err != nil || a.StatusCode != 200 {
			t.Fatalf("%v, %v", a, err)
		}
		pages = append(pages, a.Body)
	}
	if code, _, _ := ask(t, "GET", r.url(0, "/stream")); code != 503 {
		t.Errorf("one more page: %d", code)
	}
	for range 64 { // which close others, and no page
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for i, p := range pages {
		if _, err := io.ReadFull(p.(io.Reader), make([]byte, 4096)); err != nil {
			t.Errorf("page %d: %v", i, err)
		}
	}
	for _, p := range pages {
		p.Close()
	}
}

// Pages that take nothing of what they are sent, as of a host that has died, make room for others
// before the kernel's buffers are full, which would be minutes.
func TestPagesThatTakeNothing(t *testing.T) {
	r := staticWith(t, "", withHTTP(t, 0), primary)
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error { // before it connects
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
	}}
	for range 32 {
		c, err := dialer.Dial("tcp", r.d.watching.web.Addr(0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := io.ReadFull(c, make([]byte, 12)); err != nil { // that it is one, and then no more
			t.Fatal(err)
		}
	}
	page := func() int {
		a, err := httpClient.Get(r.url(0, "/stream"))
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		return a.StatusCode
	}
	eventually(t, "there are too many pages", func() bool { return page() == 503 })
	eventually(t, "there is room for another one", func() bool { return page() == 200 })
}
