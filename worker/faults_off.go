//go:build !faults

package worker

// The released library has no faults on request; see faults_on.go.

func fault(*Reactor)            {}
func faultRequest(flags uint32) {}
