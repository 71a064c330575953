package test

// cm_ctl reload of every parameter of conmgr.conf, one after the other: in effect, or named as one that
// needs a restart.

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
)

// others are values that are not the default, of every parameter; KEY is a key file.
var others = map[string]string{
	"port": "27999", "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "unix_socket_permissions": "0700",
	"max_connections": "50", "max_user_connections": "40", "idle_timeout": "2h", "admin_users": "12345", "stats_users": "*",
	"target_wait": "1s", "max_waiting": "5", "notify_loss": "off",
	"relay_port_any": "27701", "relay_port_read_write": "27702", "relay_port_read_only": "27703", "relay_port_primary": "27704",
	"relay_port_standby": "27705", "relay_port_prefer_standby": "27706", "relay_port_prefer_read": "27707",
	"relay_allowed_networks": "192.0.2.0/24", "http_port": "27708", "http_listen_addresses": "127.0.0.1", "event_history": "20",
	"event_command": "true", "event_command_timeout": "3s", "backend_host": "db", "health_port": "27709",
	"heartbeat_interval": "400ms", "heartbeat_timeout": "3s", "heartbeat_connect_interval": "2s", "heartbeat_connect_timeout": "5s",
	"standby_timeline_grace": "-1", "standby_max_lag": "16MB", "on_role_change": "notify", "application_grace": "5s",
	"heartbeat_key_file": "KEY", "log_destination": "stderr,syslog", "syslog_facility": "LOCAL3", "syslog_ident": "cm",
	"log_min_messages": "DEBUG",
}

// elsewhere are parameters that other tests change: they need a capability, or another server.
var elsewhere = map[string]bool{"destroy_sockets": true, "backend_hostaddr": true, "backend_port": true, "watchdog_port": true}

func TestReloadOfEverything(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	key := filepath.Join(keyDirectory(t), "key")
	if err := os.WriteFile(key, []byte(keyLine(t, "client1", 1)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(key, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	keyFile(t, w.primary, 0o600, keyLine(t, "client1", 1))
	w.primary.Configure("watchdog.key_file", "keys")
	w.reload(map[string]string{"watchdog.authentication": "prefer"}, `keys of conmgr processes are in force: 1 from "keys"`)
	base := fmt.Sprintf("backend_hostaddr0 = '%s'\nbackend_port0 = %d\nheartbeat_timeout = 2s\nheartbeat_interval = 500ms\n", w.db.Addr4, w.primary.Port)
	c := newCtl(t, client, base)
	c.run(0, "start")
	t.Cleanup(func() { c.run(0, "stop") })
	pid := c.report(0).Pid
	session := w.session(client)
	for i := range conf.Params {
		p := &conf.Params[i]
		if elsewhere[p.Name] {
			continue
		}
		value, known := others[p.Name]
		name := p.Name
		if p.Numbered {
			name += "0"
		}
		if !known {
			t.Errorf("%s: the test has no other value of it", name)
			continue
		}
		value = strings.ReplaceAll(value, "KEY", key)
		c.write("conmgr.conf", base+name+" = "+conf.Quote(value)+"\n")
		said := c.run(0, "reload")
		changed, pending := `parameter "`+name+`" changed to`, `parameter "`+name+`" cannot be changed without restarting conmgr`
		row := c.config(name)
		if p.Context == conf.Postmaster {
			if !strings.Contains(said, pending) || row["pending_restart"] != "on" || row["setting"] == value {
				t.Errorf("%s: %v, and cm_ctl says\n%s", name, row, said)
			}
		} else if !strings.Contains(said, changed) || row["pending_restart"] != "off" || row["setting"] != value ||
			row["source"] != fmt.Sprintf("%s/conmgr.conf:5", c.dir) || row["context"] != "sighup" {
			t.Errorf("%s: %v, and cm_ctl says\n%s", name, row, said)
		}
		if p.Name == "http_port" || p.Name == "health_port" || strings.HasPrefix(p.Name, "relay_port_") && p.Name != "relay_port_standby" {
			port, _ := strconv.Atoi(value)
			conn, err := client.Dialer().DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else {
				conn.Close()
			}
		}
		if p.Name == conf.KeyParam { // what it has proved belongs to the key
			c.write("conmgr.conf", base)
			if said, row := c.run(0, "reload"), c.config(name); !strings.Contains(said, pending) || row["pending_restart"] != "on" || row["setting"] != value {
				t.Errorf("without the key: %v, and cm_ctl says\n%s", row, said)
			}
			c.write("conmgr.conf", base+"max_waiting = 9\n") // in place, with the key
			c.run(0, "reload")
			if row := c.config(name); row["pending_restart"] != "on" || row["setting"] != value {
				t.Errorf("without the key, in place: %v", row)
			}
			if waits := c.config("max_waiting"); waits["setting"] != "9" {
				t.Errorf("%v", waits)
			}
			c.run(0, "restart")
		}
		// as it was: by a file that was made so, or without the line
		c.write("conmgr.conf", base)
		c.run(0, "reload")
		if row := c.config(name); row["pending_restart"] != "off" || row["setting"] == value && row["default"] != value {
			t.Errorf("%s, when it was taken out again: %v", name, row)
		}
	}
	renumbered := strings.ReplaceAll(strings.ReplaceAll(base, "addr0", "addr3"), "port0", "port3")
	c.write("conmgr.conf", renumbered)
	if said := c.run(0, "reload"); !contains(said, `parameter "backend_hostaddr3" changed to "`, `parameter "backend_hostaddr0" changed to ""`) {
		t.Errorf("renumbered: cm_ctl says\n%s", said)
	}
	if r := c.report(0); len(r.Instances) != 1 || *r.Instances[0].Instance != 3 {
		t.Errorf("renumbered: %s", said(r.Instances))
	}
	if now := c.report(0).Pid; *now != *pid {
		t.Errorf("process %d, was %d", *now, *pid)
	}
	w.alive(session, "a session")
	w.noLog(0, `terminated connections`)
}

// config is a row of SHOW CONFIG.
func (c *ctl) config(name string) map[string]string {
	c.Helper()
	cmd := c.host.Command(c.Context(), "psql", "-X", "-At", "-h", "127.0.0.1", "-p", "27546", "-U", "x", "-d", "conmgr", "-F", "\t", "-c", "SHOW CONFIG")
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.Fatalf("SHOW CONFIG: %v\n%s", err, out)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if f := strings.Split(line, "\t"); len(f) == 6 && f[0] == name {
			return map[string]string{"setting": f[1], "default": f[2], "source": f[3], "context": f[4], "pending_restart": f[5]}
		}
	}
	c.Fatalf("no %s in SHOW CONFIG:\n%s", name, out)
	return nil
}
