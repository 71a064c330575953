package duration

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"0": 0, "5": 5 * time.Second, "5s": 5 * time.Second, "500ms": 500 * time.Millisecond, "2 min": 2 * time.Minute,
		"1h": time.Hour, "1d": 24 * time.Hour, "2147483": 2147483 * time.Second,
	} {
		if got, err := Parse(v, 0, Most); err != nil || got != want {
			t.Errorf("%q: got %v, %v", v, got, err)
		}
	}
	for _, v := range []string{"", "s", "-1", "+1", "1.5", "5 sec", "5S", "5 s s", "2147484", "9223372036854775807d",
		"99999999999999999999"} {
		if got, err := Parse(v, 0, Most); err == nil || !strings.Contains(err.Error(), "allowed are 0 ms to 2147483 s") {
			t.Errorf("%q: got %v, %v", v, got, err)
		}
	}
	if _, err := Parse("9ms", 10, Most); err == nil {
		t.Error("less than the least was taken")
	}
}
