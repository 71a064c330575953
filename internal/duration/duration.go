// Package duration reads times as conmgr.conf, SHOW TARGET and connection strings write them: an
// integer in seconds, or with a unit. Pure.
package duration

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Most is the longest one, in milliseconds: 2147483 s, as many as PostgreSQL's own settings have.
const Most = int64(2147483) * 1000

var units = map[string]int64{"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}

// Parse reads an integer with an optional unit, of least to most milliseconds. The error says what
// is allowed.
func Parse(v string, least, most int64) (time.Duration, error) {
	digits := len(v) - len(strings.TrimLeft(v, "0123456789"))
	n, err := strconv.ParseInt(v[:digits], 10, 64)
	unit := strings.Trim(v[digits:], " \t")
	if unit == "" {
		unit = "s"
	}
	ms, known := units[unit]
	if err != nil || !known || n > most/ms || n*ms < least {
		return 0, fmt.Errorf(
			"allowed are %d ms to %d s, written as seconds or with one of the units ms, s, min, h, d", least,
			most/1000)
	}
	return time.Duration(n*ms) * time.Millisecond, nil
}
