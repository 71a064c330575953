package route

// Draining: an instance that is to lose its sessions in peace. It is offered to nobody new, and
// stays what it is for all other rules: the primary in use, the holder of its timeline. Pure.

import (
	"strings"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Draining says by whom an instance is drained: cm.DrainServer, by what it has told last, and
// cm.DrainHere; both, separated by a comma; "": it is not.
func (t *Table) Draining(index int) string {
	in := &t.all[index]
	var by []string
	if in.Told && in.Attributes.Has(heartbeat.Draining) {
		by = append(by, cm.DrainServer)
	}
	if in.Drained {
		by = append(by, cm.DrainHere)
	}
	return strings.Join(by, ",")
}

// isOffered: an instance is used, and for new ones.
func (t *Table) isOffered(index int) bool {
	return t.Verdicts[index].Why == "" && t.Draining(index) == ""
}

// whyDraining is for people; "": it is not.
func (t *Table) whyDraining(index int) string {
	switch t.Draining(index) {
	case "":
		return ""
	case cm.DrainServer:
		return "it is draining, by its server (watchdog.draining or watchdog_drain())"
	case cm.DrainHere:
		return "it is draining, by cm_ctl drain on this host"
	}
	return "it is draining, by its server (watchdog.draining or watchdog_drain()) and by cm_ctl drain on this host"
}
