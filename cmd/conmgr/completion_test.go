package main

import (
	"testing"

	"github.com/pgwatchdog/watchdog/internal/completed"
)

// The completion of shells is that of the table.
func TestCompletion(t *testing.T) {
	completed.Check(t, "../../packaging/completion", new(options).program())
}
