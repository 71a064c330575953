// Package monitoring has the tests of what others see: a real Prometheus with postgres_exporter, a
// headless Chromium, HAProxy with Patroni's sample configuration. They need these programs, root and
// minutes: make test-monitoring.
package monitoring
