// Package metrics is what conmgr measures, for Prometheus: counters that hang on the event hub,
// round trips of heartbeats, and what the routing table says at the moment when somebody asks.
// Nothing blocks.
//
//	meter.go      round trips and their jitter, from beats
//	counters.go   what has happened so far
//	collector.go  what is there now
//	registry.go   all of it, by HTTP
//	leave.go      what was counted goes on over a reload
package metrics
