package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// TestKeyFile: the key is read with conmgr.conf, and what is wrong with it is said with the line
// that names it.
func TestKeyFile(t *testing.T) {
	id, err := proof.ParseKeyID("client1")
	if err != nil {
		t.Fatal(err)
	}
	line := proof.Line(id, proof.Secret{1}) + "\n"
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"good", "# of this host\n" + line, 0o600, ""},
		{"readable by the group", line, 0o640, "has group or world access"},
		{"none", "", 0o600, "there are 0 keys: conmgr has exactly one"},
		{"two", line + "b" + line, 0o600, "there are 2 keys"},
		{"rotation", line + proof.Line(id, proof.Secret{2}), 0o600, "there are 2 keys"},
		{"a bad line", "\nclient1\n", 0o600, "/key:2: a line is: keyid secret"},
		{"missing", "", 0, "could not open key file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			conf := "backend_host0 = 'db0'\nheartbeat_key_file = 'key'\n"
			if err := os.WriteFile(filepath.Join(dir, "conmgr.conf"), []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.mode != 0 {
				if err := os.WriteFile(filepath.Join(dir, "key"), []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(filepath.Join(dir, "key"), c.mode); err != nil {
					t.Fatal(err)
				}
			}
			cfg, diags := Load(dir)
			if c.want == "" {
				if cfg == nil || len(diags) > 0 || cfg.Key == nil || cfg.Key.ID != id {
					t.Fatal(cfg, diags)
				}
				return
			}
			if cfg != nil || len(diags) != 1 || !strings.Contains(diags[0].String(), c.want) ||
				!strings.Contains(diags[0].String(), "conmgr.conf:2: heartbeat_key_file: ") || diags[0].Warning {
				t.Errorf("%v, want %s", diags, c.want)
			}
		})
	}
}
