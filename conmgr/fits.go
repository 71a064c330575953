package conmgr

// What a conmgr.conf that is right cannot do on this machine, looked at before a process goes on in
// place with it: as a new process it would end by that, and applications would lose what they have.
// Run by the main goroutine; blocks on a look-up of listen_addresses, for 10 s at most.

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/listen"
	"github.com/pgwatchdog/watchdog/conmgr/sockdestroy"
)

// unfit are the errors of a configuration that changes what runs, with what it keeps of that.
func unfit(running *conf.Config, keeps conf.Kept, changes []conf.Change) (diags []conf.Diagnostic) {
	next, diags := conf.LoadKept(running.Dir, keeps)
	diags = slices.DeleteFunc(diags, func(w conf.Diagnostic) bool { return w.Warning }) // they were told
	if next == nil {
		return diags // what is kept is in the way of something new
	}
	add := func(name string, err error) {
		if err != nil {
			diags = append(diags, unfitting(next, name, err))
		}
	}
	if _, keepsKey := keeps[conf.KeyParam]; keepsKey && running.IsOther(next.Key) {
		add(conf.KeyParam, errors.New("the file of before has the key of another name now, which needs a restart"))
	}
	add("max_connections", checkDescriptors(next))
	if next.DestroySockets && !running.DestroySockets {
		add("destroy_sockets", sockdestroy.Check())
	}
	own := running.Ports()
	_, keepsPort := keeps["port"]
	_, keepsAddresses := keeps[addressesParam]
	for _, c := range changes {
		port := next.Opens(c.Name)
		if c.Name == "port" && !keepsPort {
			port = next.Port
		}
		switch isApplications := port == next.Port || slices.ContainsFunc(next.RelayPorts, func(p conf.RelayPort) bool { return p.Port == port }); {
		case c.Name == httpAddresses && len(next.Ports()) > 1:
			add(c.Name, tryListen(c.Name, next.HTTPAddresses, 0)) // any port: those of before are open
		case c.Name == addressesParam && !keepsAddresses:
			add(c.Name, tryListen(c.Name, next.ListenAddresses, 0))
		case port == 0 || slices.Contains(own, port):
		case isApplications:
			add(c.Name, tryListen(addressesParam, next.ListenAddresses, port))
		default:
			add(c.Name, tryListen(httpAddresses, next.HTTPAddresses, port))
		}
	}
	return diags
}

const (
	addressesParam = "listen_addresses"
	httpAddresses  = "http_listen_addresses"
)

// tryListen opens a port for a moment.
func tryListen(param string, addresses []string, port int) error {
	all, err := listen.Open(context.Background(), param, addresses, port, nil)
	for _, l := range all {
		_ = l.Close()
	}
	return err
}

// fits tells what would keep the process from going on with conmgr.conf as it is now, of which it
// keeps nothing: a restart. A reload has looked by itself, and says what has changed.
func (d *daemon) fits() error {
	running := d.current.Load()
	next, changes, diags := conf.Reload(running)
	if next != nil {
		diags = unfit(running, nil, changes)
	}
	if next == nil || len(diags) > 0 {
		return reloadError(diags)
	}
	return nil
}

func checkDescriptors(c *conf.Config) error {
	limit, err := descriptorLimit()
	if err == nil {
		_, err = conf.ConnectionLimit(limit, len(c.Instances), c.MaxConnections, len(c.RelayPorts) > 0, conf.CountListeners(c))
	}
	return err
}

// unfitting names the line of the parameter.
func unfitting(c *conf.Config, name string, err error) conf.Diagnostic {
	d := c.At(name)
	d.Text = fmt.Sprintf("parameter %q: %v", name, err)
	if why := (*conf.StartError)(nil); errors.As(err, &why) {
		d.Hint = why.Hint
	}
	return d
}
