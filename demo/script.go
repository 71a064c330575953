package main

// The stage, and what is told at the end. Runs on the script's goroutine; blocks up to the limits
// of its waits.

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

type script struct {
	interval, timeout time.Duration
	build             string
	out               io.Writer
	timeline          *timeline

	r                    *testkit.Run
	ctx                  context.Context
	primary, standby     *pgtest.Cluster
	primaryDB, standbyDB *sql.DB // by Unix-domain socket: outside of all that happens here
	cm                   *conmgr
	app                  *application
	batch, bystander     *session // on the primary: of the client host, of another host
	frozen               time.Time
	result               result
}

// result is what was measured.
type result struct {
	detected   time.Duration // freeze to conmgr's verdict
	told       time.Duration // verdict to the application's error
	promotion  time.Duration
	learned    time.Duration // end of the promotion to conmgr's knowing it
	gap        time.Duration // between two acknowledged rows
	wokenEnded time.Duration // waking of the old primary to the end of the sessions
	hostEnded  time.Duration // silence of the client host to the end of its sessions
	lateRows   int           // that the old primary wrote after it had woken
}

// Waits for what takes no heartbeats.
const patience = 15 * time.Second

// slack beyond heartbeat_timeout: for scheduling, and one interval for a process that itself was
// stalled.
func (s *script) detectionLimit() time.Duration { return s.timeout + s.interval + 200*time.Millisecond }

// run is the script. The first thing that is not seen in time ends it.
func (s *script) run(r *testkit.Run) {
	s.r, s.ctx = r, r.Context()
	for _, step := range []func() error{s.setUp, s.primaryFalls, s.oldPrimaryWakes, s.clientHostFalls, s.tell} {
		err := step()
		if s.ctx.Err() == context.Canceled {
			return
		}
		s.timeline.flush()
		if err != nil {
			r.Fatalf("%v", err)
		}
	}
}

func (s *script) setUp() error {
	var err error
	if s.cm, err = newConmgr(s.r, s.build); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "setting up a primary, a streaming standby, conmgr and an application ...")
	ports, err := testkit.FreePorts(5)
	if err != nil {
		return err
	}
	s.primary = pgtest.New(s.r, pgtest.Watchdog(), pgtest.Named("primary"), pgtest.OnPort(ports[0]),
		watchdogPort(ports[1]), loopbackOnly)
	s.primary.WatchdogPort = ports[1]
	s.r.Cleanup(s.primary.Thaw) // before all that waits for it
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	s.primary.Exec("CREATE EXTENSION watchdog")
	s.primary.Exec("CREATE TABLE ledger (n bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())")
	s.primary.Exec("CREATE TABLE orders (n bigint)")
	s.standby = s.primary.Standby("standby", pgtest.OnPort(ports[2]), watchdogPort(ports[3]))
	s.standby.WatchdogPort = ports[3]
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	s.primaryDB, s.standbyDB = s.admin(s.primary), s.admin(s.standby)

	if err := s.cm.configure(ports[4], s.interval, s.timeout, s.primary, s.standby); err != nil {
		return err
	}
	if err := s.cm.start(s.r); err != nil {
		return err
	}
	s.app, err = startApplication(s.ctx, fmt.Sprintf("host=127.0.0.1 port=%d target_session_attrs=read-write user=postgres dbname=postgres sslmode=disable "+
		"connect_timeout=5 application_name=application", s.cm.port))
	if err != nil {
		return err
	}
	s.r.Cleanup(func() {
		s.primary.Thaw()
		s.cm.signal(syscall.SIGCONT)
		s.app.stop()
	})
	s.timeline.note("%s with the extension watchdog preloaded, all on loopback addresses:", s.primary.Version)
	s.timeline.note("primary      instance 0, 127.0.0.1:%d", s.primary.Port)
	s.timeline.note("standby      instance 1, 127.0.0.1:%d, streaming replication, asynchronous", s.standby.Port)
	s.timeline.note("conmgr       port %d, heartbeat_interval %v, heartbeat_timeout %v", s.cm.port, s.interval,
		s.timeout)
	s.timeline.note("application  writes a row every %v to the instance that conmgr names for target_session_attrs=read-write", pace)
	s.timeline.note("client host  %s (conmgr, application); another one is %s", clientHost, otherHost)
	return s.app.written(s.ctx, patience, 50)
}

func watchdogPort(port int) pgtest.Option { return pgtest.Set("watchdog.port", fmt.Sprint(port)) }

var loopbackOnly = pgtest.Set("watchdog.listen_addresses", "127.0.0.1")

// admin is one connection over the Unix-domain socket.
func (s *script) admin(server *pgtest.Cluster) *sql.DB {
	db := server.Admin()
	db.SetMaxOpenConns(1)
	s.r.Cleanup(func() { db.Close() })
	return db
}

func (s *script) open(server *pgtest.Cluster, from, name string) (*session, error) {
	se, err := openSession(s.ctx, server, from, name)
	if err == nil {
		s.r.Cleanup(se.close)
	}
	return se, err
}

// lockOrders opens a session of the client host that stays idle in a transaction and holds a lock.
func (s *script) lockOrders(server *pgtest.Cluster) (*session, error) {
	se, err := s.open(server, clientHost, "batch_job")
	for _, statement := range []string{"BEGIN", "LOCK TABLE orders"} {
		if err == nil {
			err = se.exec(statement)
		}
	}
	return se, err
}

// ask asks conmgr for an instance, and returns its number.
func (s *script) ask(attribute driver.Attribute) (int, error) {
	target, watch, err := driver.Ask(s.ctx, s.cm.address(), attribute)
	if err != nil {
		return 0, err
	}
	return target.Instance, watch.Close()
}

// clusterLine and conmgrLine wait for a message.
func (s *script) clusterLine(server *pgtest.Cluster, limit time.Duration, since time.Time, pattern string) (logLine,
	error) {
	return awaitLine(s.ctx, limit, server.Name, server.Log, since, pattern)
}

func (s *script) conmgrLine(limit time.Duration, since time.Time, pattern string) (logLine, error) {
	return awaitLine(s.ctx, limit, "conmgr", s.cm.log, since, pattern)
}

// tell stops the application, compares its rows with those of the new primary, and sums up.
func (s *script) tell() error {
	status, err := s.cm.control(s.ctx, "status", "-t", "5")
	if err != nil {
		return err
	}
	if err := s.app.pause(s.ctx); err != nil { // not amid a statement, whose outcome nobody would know
		return err
	}
	s.app.stop()
	acked := s.app.rows()
	found, err := rowsOf(s.standby, "")
	if err != nil {
		return err
	}
	lost, duplicates := account(acked, found)
	if err := s.cm.stop(s.ctx); err != nil {
		return err
	}

	s.timeline.act("cm_ctl status, before conmgr was stopped")
	for line := range strings.Lines(status) {
		fmt.Fprintf(s.out, "  %s", line)
	}
	r := &s.result
	s.timeline.act("What was measured in this run")
	s.timeline.note("silent primary       declared lost after %d ms (rule: more than %d, at most %d)",
		milliseconds(r.detected),
		milliseconds(s.timeout-s.interval), milliseconds(s.timeout+200*time.Millisecond))
	s.timeline.note("application          had its error %d ms after the verdict, instead of waiting for TCP",
		milliseconds(r.told))
	s.timeline.note("                     wrote again %d ms after its last row (promotion: %d ms; until conmgr knew it: %d ms, by watchdog.check_attr_interval)",
		milliseconds(r.gap), milliseconds(r.promotion), milliseconds(max(0, r.learned)))
	s.timeline.note("old primary          ended the sessions of the client host %d ms after it woke",
		milliseconds(r.wokenEnded))
	s.timeline.note("silent client host   its sessions and locks were gone after %d ms (same rule)",
		milliseconds(r.hostEnded))
	s.timeline.note("rows                 %d acknowledged; on the new primary %d, lost %d, duplicates %d", len(acked),
		len(found), lost, duplicates)
	if r.lateRows > 0 {
		s.timeline.note("                     %d written by the old primary after it woke: the INSERT under way, whose outcome was unknown; the application repeated it", r.lateRows)
	}
	if lost > 0 {
		s.timeline.note("                     Replication is asynchronous: what was acknowledged but not yet sent is lost. synchronous_standby_names prevents that.")
	} else {
		s.timeline.note("                     Replication is asynchronous: a few rows may be lost. synchronous_standby_names prevents that.")
	}
	return nil
}
