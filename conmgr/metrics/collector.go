package metrics

// What is there now: read from the routing table and the registry at the moment of a scrape, by the
// goroutine that answers it.

import (
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/clock"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// gauge describes one.
func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// of describes one of an instance.
func of(name, help string, labels ...string) *prometheus.Desc {
	return gauge(name, help, append([]string{"instance", "host"}, labels...)...)
}

var (
	descUp    = gauge("conmgr_up", "1: the Connection Manager serves.")
	descBuild = gauge("conmgr_build_info", "1, with the version.", "version", "goversion")
	descSince = gauge("conmgr_start_time_seconds", "When this process has begun, since 1970.")
	descCPU   = gauge("conmgr_cpu_seconds_total", "Processor time that this process has used.")
	descPeak  = gauge("conmgr_resident_memory_max_bytes", "Most memory that this process has had resident.")

	descPrimary  = gauge("conmgr_primary_present", "1: there is a primary that applications are sent to.")
	descWaiting  = gauge("conmgr_waiting_connections", "Application connections that wait for an instance.")
	descState    = of("conmgr_instance_state", "1 of the state in which the instance is, 0 of the others.", "state")
	descRole     = of("conmgr_instance_role", "1 of the role that the instance has, 0 of the others.", "role")
	descOffered  = of("conmgr_instance_offered", "1: applications that ask for the attribute may get the instance.", "attribute")
	descHeard    = of("conmgr_instance_last_heartbeat_seconds", "Time since the last heartbeat that has come.")
	descJitter   = of("conmgr_heartbeat_jitter_seconds", "Mean difference of a round trip from the one before, smoothed.")
	descBound    = of("conmgr_bound_connections", "Application connections that are bound to the instance, relayed ones included.")
	descDraining = of("conmgr_instance_draining", "1: no application is sent to the instance, as it is drained.", "by")
	descInterval = gauge("conmgr_heartbeat_interval_seconds", "heartbeat_interval of conmgr.conf.")
	descTimeout  = gauge("conmgr_heartbeat_timeout_seconds", "heartbeat_timeout of conmgr.conf.")

	descRecovery = of("watchdog_in_recovery", "1: the server is a standby, as it says with its heartbeats; of the next ones, too.")
	descReadOnly = of("watchdog_read_only", "1: new sessions of the server are read only by default.")
	descDrain    = of("watchdog_draining", "1: the server is drained.")
	descTimeline = of("watchdog_timeline", "Timeline of the server.")
	descLag      = of("watchdog_replay_lag_bytes", "WAL that the standby knows of and has not replayed.")
	descLagTime  = of("watchdog_replay_lag_seconds", "Time for which the standby has known of some of that.")
	descStart    = of("watchdog_postmaster_start_time_seconds", "When the server was started, since 1970.")
)

var states = []heartbeat.State{heartbeat.Connecting, heartbeat.Established, heartbeat.Lost, heartbeat.Stopping,
	heartbeat.Stopped, heartbeat.Duplicate}

var roles = []string{"primary", "standby", "unknown"}

// collector reads what is there.
type collector struct {
	board    *bind.Board
	registry *bind.Registry
	meter    *Meter
	now      clock.Clock
	started  float64
}

// Describe is of the interface: none, so that it may differ from scrape to scrape.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect makes the metrics.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	send(descUp, 1)
	send(descBuild, 1, cm.Version, runtime.Version())
	send(descSince, c.started)
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) == nil {
		out <- prometheus.MustNewConstMetric(descCPU, prometheus.CounterValue, seconds(used.Utime)+seconds(used.Stime))
		send(descPeak, float64(used.Maxrss)*1024)
	}
	t := c.board.Table.Load()
	send(descPrimary, truth(t.Primary >= 0))
	send(descWaiting, float64(len(c.registry.Waiting())))
	interval, timeout := c.board.Heartbeats()
	send(descInterval, interval.Seconds())
	send(descTimeout, timeout.Seconds())
	for i := range t.Entries {
		c.instance(out, t, i)
	}
}

func (c *collector) instance(out chan<- prometheus.Metric, t *bind.Table, i int) {
	e := &t.Entries[i]
	number, host := strconv.Itoa(e.Config.Number), e.Config.Name()
	send := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{number, host}, labels...)...)
	}
	for _, s := range states {
		send(descState, truth(e.State == s), s.String())
	}
	for _, r := range roles {
		send(descRole, truth(e.Role() == r), r)
	}
	for _, a := range cm.Attributes {
		send(descOffered, truth(t.Offers(i, bind.Request{Want: a})), string(a))
	}
	if h := c.board.Heard[i].Load(); h > 0 {
		send(descHeard, max(0, c.now().Sub(heartbeat.Mono(h)).Seconds()))
	}
	if b := c.meter.Beats(e.Config.Number); b.Known {
		send(descJitter, b.Jitter.Seconds())
	}
	send(descBound, float64(c.registry.BoundTo(i)))
	send(descDraining, truth(e.Drained), cm.DrainHere)
	send(descDraining, truth(e.Known && e.Attributes.Has(heartbeat.Draining)), cm.DrainServer)
	if !e.Known || !e.Established() {
		return
	}
	a := e.Attributes
	send(descRecovery, truth(a.Has(heartbeat.InRecovery)))
	send(descReadOnly, truth(a.IsReadOnly()))
	send(descDrain, truth(a.Has(heartbeat.Draining)))
	send(descTimeline, float64(a.Timeline))
	send(descStart, float64(e.PostmasterStart)/1e6)
	if e.Lag.Known {
		send(descLag, float64(e.Lag.Bytes))
		if e.Lag.Time >= 0 {
			send(descLagTime, e.Lag.Time.Seconds())
		}
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func seconds(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
