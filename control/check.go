package control

import (
	"fmt"

	"github.com/pgwatchdog/watchdog/cm"
)

// cm_ctl status --check: an exit status and a line that a monitoring system can use, as Nagios and
// its heirs have them. Pure.

// judge adds the line, and the exit status of a check that has failed.
func (r *run) judge(s *sight) {
	c := &checkReport{What: r.check}
	s.Check = c
	connected, bound := 0, int64(0)
	for i := range s.asked.instances.values {
		f := s.asked.instances.row(i)
		if isConnected(f) {
			connected++
		}
		if n := f.number(cm.ColBound); n != nil {
			bound += *n
		}
	}
	of := fmt.Sprintf("%d of %d instances established", connected, len(s.asked.instances.values))
	figures := fmt.Sprintf(" | instances=%d established=%d bound=%d", len(s.asked.instances.values), connected, bound)
	switch {
	case s.code == exitNotRunning:
		c.Text = "CONMGR UNKNOWN - no conmgr process running"
	case s.Error != "":
		s.code, c.Text = exitCheckFailed, "CONMGR CRITICAL - "+printable(s.Error)
	case passes(r.check, s.asked.instances):
		c.OK, c.Text = true, "CONMGR OK - "+primaryText(s.asked.instances)+of+figures
	default:
		s.code, c.Text = exitCheckFailed, "CONMGR CRITICAL - "+checkTexts[r.check]+"; "+of+figures
	}
}

// primaryText names the primary in use.
func primaryText(instances rows) string {
	for i := range instances.values {
		if f := instances.row(i); f.shown(cm.ColState) == stateEstablished && isUsedPrimary(f) {
			text := fmt.Sprintf("primary is instance %s (%s:%s)", f.shown(cm.ColInstance), f.shown(cm.ColHost), f.shown(cm.ColPort))
			if heard := ago(f.number(cm.ColLastHeartbeat)); heard != "" {
				text += ", heartbeat " + heard + " ago"
			}
			return text + "; "
		}
	}
	return ""
}

// isConnected: heartbeats go, as cm_ctl start --complete waits for; those of a duplicate by the other
// entry that leads to its server.
func isConnected(f fields) bool {
	state := f.shown(cm.ColState)
	return state == stateEstablished || state == "duplicate"
}

// stateEstablished is how conmgr calls an instance that heartbeats prove alive.
const stateEstablished = "established"

var checkTexts = map[string]string{
	"primary": "no primary is there to be used",
	"all":     "not all instances have a heartbeat connection",
	"any":     "no instance has a heartbeat connection",
}

func passes(check string, instances rows) bool {
	connected := 0
	for i := range instances.values {
		f := instances.row(i)
		if !isConnected(f) {
			continue
		}
		connected++
		if check == "primary" && isUsedPrimary(f) {
			return true
		}
	}
	switch check {
	case "all":
		return connected == len(instances.values) && connected > 0
	case "any":
		return connected > 0
	}
	return false
}

// isUsedPrimary: of two primaries only one is used. A conmgr of 1.0 does not tell which.
func isUsedPrimary(f fields) bool {
	_, tells := f[cm.ColUsedFor]
	return f.shown(cm.ColRole) == "primary" && (!tells || f.text(cm.ColUsedFor) != nil)
}
