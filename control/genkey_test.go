package control

import (
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
)

// TestGenkey: what is printed is a key file, another one each time; nothing else is needed for it.
func TestGenkey(t *testing.T) {
	d := newDesk(t, "prompt")
	delete(d.env, "CMDATA")
	seen := map[string]bool{}
	for range 2 {
		r := d.run(t.Context(), "genkey", "db-client.1")
		d.want(r, 0, "db-client.1 ")
		keys, err := proof.ParseFile("out", r.stdout)
		if err != nil || keys.Len() != 1 || strings.Count(r.stdout, "\n") != 1 || seen[r.stdout] {
			t.Errorf("%q: %v", r.stdout, err)
		}
		seen[r.stdout] = true
	}
}
