//go:build monitoring

package monitoring

import "testing"

// The alerting rules, on series that are made for that.
func TestAlerts(t *testing.T) { promtool(t, "", "test", "rules", "testdata/alerts.yml") }
