package control

import "github.com/pgwatchdog/watchdog/cm"

// cm_ctl status --check: an exit status that a monitoring system can use. Pure.

// checked is the exit status of a status that has been shown. problem is why conmgr could not be
// asked, if it could not.
func (r *run) checked(instances rows, problem string) int {
	switch {
	case r.check == "":
		return exitOK
	case problem != "":
		return exitCheckFailed // already said
	case passes(r.check, instances):
		return exitOK
	}
	r.fail("check \"%s\" has failed: %s", r.check, checkTexts[r.check])
	return exitCheckFailed
}

var checkTexts = map[string]string{
	"primary": "no primary is there to be used",
	"all":     "not all instances have a heartbeat connection",
	"any":     "no instance has a heartbeat connection",
}

func passes(check string, instances rows) bool {
	connected := 0
	for i := range instances.values {
		f := instances.row(i)
		if f.shown(cm.ColState) != "established" {
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
