//go:build !faults

package worker

import "github.com/pgwatchdog/watchdog/heartbeat"

// The released library has no faults on request; see faults_on.go.

func fault(*Reactor)                 {}
func faultRequest(h heartbeat.Hello) {}
