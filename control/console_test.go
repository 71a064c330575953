package control_test

// The console of the tests' conmgr is conmgr's own (internal/cmtest/scripted), in a file of the outer
// test package, as conmgr itself imports this one.

import (
	"net"
	"os"
	"strconv"

	"github.com/pgwatchdog/watchdog/control"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
)

func init() { control.StartConsole = startConsole }

// startConsole serves a listener: two instances, of which the first is established and the second
// one lost. promote makes a primary of the first, which is one already but among the standbys.
func startConsole(l net.Listener, behaviour string, reload func() control.FakeReload) (promote func(), err error) {
	primary := scripted.Instance{Number: 0, Host: "db0", HostAddr: "10.0.0.1", Port: 27500,
		Attributes: scripted.Primary}
	gone := scripted.Instance{Number: 2, Host: "db2", HostAddr: "10.0.0.2", Port: 5432, Attributes: scripted.Primary}
	if port, err := strconv.Atoi(os.Getenv(control.ServerVariable)); err == nil { // an instance that is there
		primary.HostAddr, primary.Port, gone.HostAddr, gone.Port = "127.0.0.1", port, "127.0.0.2", port
	}
	standby := primary
	standby.Attributes = scripted.Standby
	first := primary
	if control.HasNoPrimary(behaviour) {
		first = standby
	}
	c, err := scripted.Start(scripted.Options{Listener: l, Ungated: true, Full: behaviour == "full", Reload: func() scripted.Reload { return scripted.Reload(reload()) }}, first, gone)
	if err != nil {
		return nil, err
	}
	c.Lose(gone.Number)
	return func() { c.Set(primary) }, nil
}
