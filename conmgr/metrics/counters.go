package metrics

// What has happened so far: counters that hang on the event hub. Whoever emits runs take.

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// Results of conmgr_targets_total.
const (
	resultFound = "found"
	resultNone  = "none"
)

// The ways of conmgr_applications_told_total.
const (
	toldLoss      = "loss"      // the connection to conmgr was ended with the reason
	toldReset     = "reset"     // the relayed connection was reset
	toldDestroyed = "destroyed" // destroy_sockets
	toldRole      = "role"      // on_role_change
	toldDrain     = "drain"
	toldNobody    = "would" // what notify_loss = off has kept from being done
)

type counters struct {
	losses      *prometheus.CounterVec
	established *prometheus.CounterVec
	failed      *prometheus.CounterVec
	targets     *prometheus.CounterVec
	told        *prometheus.CounterVec
	refused     *prometheus.CounterVec
	waited      *prometheus.CounterVec
	byName      map[string]*prometheus.CounterVec
}

func newCounters() *counters {
	all := map[string]*prometheus.CounterVec{}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		all[name] = prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		return all[name]
	}
	return &counters{
		byName: all,
		losses: vec("conmgr_instance_losses_total", "Times that an instance was declared lost, by the reason.",
			"instance", "host", "reason"),
		established: vec("conmgr_instance_connects_total", "Heartbeat connections that were established.",
			"instance", "host"),
		failed: vec("conmgr_instance_connect_failures_total", "Attempts to establish a heartbeat connection that have failed.",
			"instance", "host"),
		targets: vec("conmgr_targets_total", "Questions of applications for an instance, by what they asked for and whether there was one.",
			"attribute", "result"),
		told: vec("conmgr_applications_told_total", "Application connections that were told something of their instance, or ended.",
			"instance", "host", "how"),
		refused: vec("conmgr_connections_refused_total", "Application connections that were refused, by the limit.", "limit"),
		waited: vec("conmgr_waits_served_total",
			"Application connections that have waited for an instance, and got one."),
	}
}

func (c *counters) all() []prometheus.Collector {
	return []prometheus.Collector{c.losses, c.established, c.failed, c.targets, c.told, c.refused, c.waited}
}

// lossReasons are all values of that label.
var lossReasons = append(append([]string{}, heartbeat.LossReasons...), event.SupersededReason)

// begin makes the series of an instance, so that the first loss is an increase.
func (c *counters) begin(in *conf.Instance) {
	number, host := strconv.Itoa(in.Number), in.Name()
	for _, reason := range lossReasons {
		c.losses.WithLabelValues(number, host, reason)
	}
	c.established.WithLabelValues(number, host)
	c.failed.WithLabelValues(number, host)
	for _, how := range []string{toldLoss, toldReset, toldDestroyed, toldRole, toldDrain, toldNobody} {
		c.told.WithLabelValues(number, host, how)
	}
}

// beginTargets does the same for what can be asked for.
func (c *counters) beginTargets() {
	c.waited.WithLabelValues()
	for _, a := range cm.Attributes {
		c.targets.WithLabelValues(string(a), resultFound)
		c.targets.WithLabelValues(string(a), resultNone)
	}
	for _, limit := range []string{"max_connections", "max_user_connections", "max_waiting", "relay_allowed_networks", "shutdown"} {
		c.refused.WithLabelValues(limit)
	}
}

// drop forgets an instance.
func (c *counters) drop(number int, host string) {
	labels := prometheus.Labels{"instance": strconv.Itoa(number), "host": host}
	for _, v := range []*prometheus.CounterVec{c.losses, c.established, c.failed, c.told} {
		v.DeletePartialMatch(labels)
	}
}

func (c *counters) take(e event.Event) {
	told := func(in event.Instance, how string, n int) {
		c.told.WithLabelValues(strconv.Itoa(in.Number), in.Host, how).Add(float64(n))
	}
	refused := func(limit string) { c.refused.WithLabelValues(limit).Inc() }
	of := func(v *prometheus.CounterVec, in event.Instance, more ...string) {
		v.WithLabelValues(append([]string{strconv.Itoa(in.Number), in.Host}, more...)...).Inc()
	}
	switch e := e.(type) {
	case event.Lost:
		of(c.losses, e.Instance, e.Loss.Reason.String())
	case event.Superseded:
		of(c.losses, e.Instance, event.SupersededReason)
	case event.Established:
		of(c.established, e.Instance)
	case event.ConnectFailed:
		of(c.failed, e.Instance)
	case event.Bound:
		result := resultNone
		if e.Found {
			result = resultFound
		}
		c.targets.WithLabelValues(string(e.Want), result).Inc()
	case event.WaitersServed:
		c.waited.WithLabelValues().Add(float64(e.N))
	case event.ApplicationsTold:
		told(e.Instance, toldLoss, e.N)
	case event.WouldHaveTold:
		told(e.Instance, toldNobody, e.Applications+e.Relayed)
	case event.RelaysReset:
		told(e.Instance, toldReset, e.N)
	case event.SocketsDestroyed:
		told(e.Instance, toldDestroyed, e.N)
	case event.RoleTold:
		told(e.Instance, toldRole, e.Told+e.Ended)
	case event.DrainBegun:
		told(e.Instance, toldDrain, e.Told)
	case event.Overfull:
		refused("max_connections")
	case event.OverShare:
		refused("max_user_connections")
	case event.NoPlace:
		refused("max_waiting")
	case event.Foreign:
		refused("relay_allowed_networks")
	case event.Rejected:
		refused("shutdown")
	}
}
