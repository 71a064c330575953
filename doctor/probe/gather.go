package probe

// All facts. The ways to the addresses of all instances are tried at the same time.

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/doctor"
	"github.com/pgwatchdog/watchdog/internal/sockowner"
)

// Options of a gathering.
type Options struct {
	Dir      string
	Limit    time.Duration // of each question
	Conninfo string        // for SQL, as libpq has it
	SQL      bool          // there are credentials
	Getenv   func(string) string
}

// Gather finds all facts.
func Gather(ctx context.Context, o Options) *doctor.Facts {
	facts := &doctor.Facts{Directory: o.Dir, Version: cm.Version}
	c := configuration(o.Dir, facts)
	facts.Conmgr = conmgr(ctx, o.Dir, o.Limit, c)
	facts.Host = host(facts.Conmgr.Pid * one(facts.Conmgr.Running))
	facts.Front = front(o.Getenv)
	if c == nil {
		return facts
	}
	facts.Settings = settings(c, facts.Host.Descriptors)
	facts.Servers = make([]doctor.Server, len(c.Instances))
	var all sync.WaitGroup
	for i := range c.Instances {
		all.Go(func() { facts.Servers[i] = server(ctx, c, &c.Instances[i], o) })
	}
	all.Wait()
	elsewhere(facts)
	return facts
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

func settings(c *conf.Config, descriptors uint64) *doctor.Settings {
	s := &doctor.Settings{Interval: c.HeartbeatInterval, Timeout: c.HeartbeatTimeout, DestroySockets: c.DestroySockets, KeyFile: c.KeyFile}
	s.Needed, s.Places = conf.Descriptors(c, descriptors)
	return s
}

// server looks at one instance.
func server(ctx context.Context, c *conf.Config, in *conf.Instance, o Options) doctor.Server {
	s := doctor.Server{Number: in.Number, Name: in.Name(), Port: in.Port, WatchdogPort: in.WatchdogPort}
	addresses := []netip.Addr{in.HostAddr.Unmap()}
	if !in.HostAddr.IsValid() {
		begin := time.Now()
		lookup, cancel := context.WithTimeout(ctx, o.Limit)
		var err error
		addresses, err = netio.Resolve(lookup, in.Host)
		cancel()
		s.LookupTime = time.Since(begin)
		if half := (*netio.HalfAnswer)(nil); err != nil && !errors.As(err, &half) {
			s.LookupError = netio.Text(err)
			return s
		}
	}
	s.Paths = make([]doctor.Path, len(addresses))
	var all sync.WaitGroup
	for i, a := range addresses {
		p := &s.Paths[i]
		p.Address = a.Unmap()
		all.Go(func() { watchdogPort(p, in.WatchdogPort, c, o.Limit) })
		all.Go(func() { p.SQL = sqlPort(netip.AddrPortFrom(a, uint16(in.Port)), o.Limit) })
	}
	all.Wait()
	if !o.SQL {
		return s
	}
	for i := range s.Paths {
		if p := &s.Paths[i]; p.SQL.Speaks == doctor.Postgres {
			s.Session = session(ctx, o.Conninfo, s.Name, netip.AddrPortFrom(p.Address, uint16(in.Port)), o.Limit)
			break
		}
	}
	return s
}

// elsewhere counts the connections of this host to each instance's SQL port by where they come from.
func elsewhere(facts *doctor.Facts) {
	sockowner.Connections(func(local, remote netip.AddrPort) {
		for i := range facts.Servers {
			s := &facts.Servers[i]
			if int(remote.Port()) != s.Port || remote.Addr().Unmap().IsLoopback() ||
				!slices.ContainsFunc(s.Paths, func(p doctor.Path) bool { return p.Address == remote.Addr().Unmap() }) {
				continue
			}
			from := local.Addr().Unmap()
			n := slices.IndexFunc(s.Elsewhere, func(e doctor.Elsewhere) bool { return e.From == from })
			if n < 0 {
				s.Elsewhere, n = append(s.Elsewhere, doctor.Elsewhere{From: from}), len(s.Elsewhere)
			}
			s.Elsewhere[n].N++
		}
	})
}
