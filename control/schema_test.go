package control

// What cm_ctl prints for programs is what the schemas in docs/ say.

import (
	"testing"

	"github.com/pgwatchdog/watchdog/internal/schema"
)

func TestStatusSchema(t *testing.T) {
	const file = "status.schema.json"
	for _, behaviour := range []string{"fixed", "prompt", "postgres"} { // an answer to the letter, a real one, none
		t.Run(behaviour, func(t *testing.T) {
			d := newDesk(t, behaviour)
			schema.Check(t, file, d.cmctl("status", "--json").stdout)
			schema.Check(t, file, d.cmctl("status", "--json", "--check=any").stdout)
			d.want(d.cmctl("start"), 0)
			if behaviour == "prompt" {
				application(t, wantRunning(t, d.dir, true).Port, "shop")
			}
			for _, args := range [][]string{nil, {"-i", "instance"}, {"-i", "application"}, {"--check=all"}} {
				schema.Check(t, file, d.cmctl(append([]string{"status", "--json"}, args...)...).stdout)
			}
		})
	}
}
