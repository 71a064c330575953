package conmgr

// A restart at which nothing is lost: the process becomes the program that is installed now, and
// keeps its ports, its pid file and what is relayed. Run by the main goroutine, which waits for the
// check of that program, and then for the end of what goes on, a second each at most.

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/conmgr/handover"
	"github.com/pgwatchdog/watchdog/conmgr/watch"
	"github.com/pgwatchdog/watchdog/control"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// Successor is what Run returns when this process is to become another program: by execve, at once.
type Successor struct {
	Path      string
	Args, Env []string
}

func (*Successor) Error() string { return "this process becomes the program that is installed now" }

const (
	checkTime = 10 * time.Second // for that program to say that it can
	// for all to end but applications that know how to be bound again: they keep their end of the
	// connection open for that
	goneTime   = 250 * time.Millisecond
	settleTime = time.Second // for those who are just coming: they may not know how to ask again
)

// again is how this conmgr can be started again, for cm_ctl.
func again(c *conf.Config, program string) control.Again {
	var image [8]byte
	_, _ = rand.Read(image[:])
	mayReturn := c.ApplicationGrace > 0
	return control.Again{Returns: mayReturn, Becomes: mayReturn && program != "", Image: hex.EncodeToString(image[:])}
}

// mayBecome tells why nothing would come of it.
func (d *daemon) mayBecome() error {
	switch {
	case d.conf.ApplicationGrace == 0:
		return errors.New("application_grace is 0")
	case d.program == "" || d.pidFile == nil:
		return errors.New("the program is not known")
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	return control.CheckHandover(ctx, d.program, d.dir)
}

// returns has servers wait for the next process, but for those that it does not monitor.
func (d *daemon) returns() {
	if next, _ := conf.Load(d.dir); next != nil {
		d.next.Store(next)
	}
	d.ending.Store(int32(watch.Returns))
}

// become ends all but what goes on, unless something is known that speaks against it. The error is a
// *Successor, or why this process has to end; nil: it goes on as it is.
func (d *daemon) become(err error, cancel func()) error {
	var r handover.Record
	if err == nil {
		d.letIn()
		err = d.door.Leave(&r)
	}
	if err != nil {
		d.events.Emit(event.NotRestarted{Err: err})
		return nil
	}
	d.events.Emit(event.Restarting{Program: d.program})
	d.systemd.Tell()
	r.HTTP = d.watching.web.Leave()
	settled := time.Now().Add(settleTime)
	d.relays.Settle(settleTime)
	d.registry.Settle(time.Until(settled))
	d.service.Leave(&r)
	d.registry.Refuse()
	d.returns()
	d.registry.EndForNow(backend.Fatal(cm.AdminShutdown, bind.ShutdownText, "", ""), d.away(), false)
	d.watching.hook.GoOn()
	cancel()
	d.group.Wait(goneTime)
	d.relays.Leave(&r)
	r.Kept = d.keeps
	d.watching.leave(&r)
	d.limit.End()
	if r.PidFile, err = d.pidFile.Leave(); err != nil {
		return err
	}
	environment, err := handover.Leave(r)
	if err != nil {
		return err
	}
	return &Successor{Path: d.program, Args: os.Args, Env: append(os.Environ(), environment)}
}

func takePidFile(dir string, info control.Info, before *handover.Record) (*control.PidFile, error) {
	if before != nil {
		return control.AdoptPidFile(dir, info, before.PidFile)
	}
	return control.CreatePidFile(dir, info)
}
