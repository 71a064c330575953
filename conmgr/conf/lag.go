package conf

// How far a standby may be behind, as conmgr.conf and SHOW TARGET write it. Pure.

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/duration"
)

var sizeUnits = []string{"B", "kB", "MB", "GB", "TB"} // as a PostgreSQL server has them

// errLag is what is allowed.
var errLag = errors.New("allowed are an integer with one of the units B, kB, MB, GB, TB, ms, s, min, h, d, and '' for no limit")

// ParseLag reads the most that a standby may be behind: a size or a duration, an integer with its
// unit; "": there is no limit. The error is the text of what is allowed.
func ParseLag(v string) (heartbeat.LagLimit, error) {
	if v == "" {
		return heartbeat.LagLimit{}, nil
	}
	digits := v[:len(v)-len(strings.TrimLeft(v, "0123456789"))]
	unit := trimSpace(v[len(digits):])
	text := digits + unit
	if i := slices.Index(sizeUnits, unit); i >= 0 {
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > math.MaxInt64>>(10*i) {
			return heartbeat.LagLimit{}, errLag
		}
		return heartbeat.LagLimit{By: heartbeat.ByBytes, Max: n << (10 * i), Text: text}, nil
	}
	d, err := duration.Parse(text, 0, duration.Most)
	if err != nil || unit == "" {
		return heartbeat.LagLimit{}, errLag
	}
	return heartbeat.LagLimit{By: heartbeat.ByTime, Max: d.Milliseconds(), Text: text}, nil
}
