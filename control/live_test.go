package control

// cm_ctl and conmgr's own console: the columns of the one are what the other makes.

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgwire"
)

// application binds a connection to an instance.
func application(t *testing.T, port int, name string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fe := pgwire.NewFrontend(conn, conn, 1<<20, 0)
	if err := fe.Startup(map[string]string{"user": "u", "application_name": name}); err != nil {
		t.Fatal(err)
	}
	if err := fe.Query("SHOW TARGET read-write"); err != nil {
		t.Fatal(err)
	}
	for ready := 0; ready < 2; {
		kind, body, err := fe.Receive()
		if err != nil || kind == 'E' {
			t.Fatalf("%q %v", body, err)
		}
		if kind == 'Z' {
			ready++
		}
	}
	return conn
}

func TestStatusOfConmgrsConsole(t *testing.T) {
	d := newDesk(t, "prompt")
	d.want(d.cmctl("start"), 0)
	info := wantRunning(t, d.dir, true)
	application(t, info.Port, "shop")
	d.want(d.cmctl("status"), 0, "db0", "27500", "established", "lost", "no heartbeat for", "shop", "read-write")
	r := d.cmctl("status", "--json")
	var s statusReport
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || len(s.Instances) != 2 || len(s.Applications) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	up, gone, app := s.Instances[0], s.Instances[1], s.Applications[0]
	if *up.Instance != 0 || *up.Host != "db0" || *up.Hostaddr != "10.0.0.1" || *up.Port != 27500 ||
		*up.WatchdogPort != 27545 || *up.State != "established" || up.Role != "primary" || *up.ReadOnly ||
		*up.Generation != 0 || !strings.Contains(*up.UsedFor, "read-write") || up.NotUsed != nil || up.Detail != nil ||
		*up.LastRole != "primary" || *up.SystemID != "7" || up.Draining != nil || *up.Bound != 1 {
		t.Errorf("instance 0: %s", r.stdout)
	}
	if *gone.Instance != 2 || *gone.State != "lost" || gone.Role != "unknown" || *gone.Generation != 1 ||
		gone.UsedFor != nil || !strings.HasPrefix(*gone.NotUsed, "it is lost") || *gone.LastRole != "primary" ||
		*gone.Detail != "no heartbeat for 2003 ms" {
		t.Errorf("instance 2: %s", r.stdout)
	}
	if *app.ApplicationName != "shop" || *app.Target != "read-write" || *app.Instance != 0 || *app.Via != "bind" ||
		*app.ClientAddr != "127.0.0.1" || app.ConnectedAt == nil {
		t.Errorf("application: %s", r.stdout)
	}
}
