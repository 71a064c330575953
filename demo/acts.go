package main

// What happens, and what has to be seen. Runs on the script's goroutine; each wait has a limit, and
// what is not seen by then ends the demo.

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

var lostPattern = regexp.MustCompile(`instance 1 .*is lost: (.*)`)

// primaryFalls: the primary says nothing any more. conmgr notices, the applications are told, the
// standby is promoted, the application goes on.
func (s *script) primaryFalls() (err error) {
	t := s.timeline
	t.act("1. The primary falls silent")
	if s.batch, err = s.lockOrders(s.primary); err != nil {
		return err
	}
	if s.bystander, err = s.open(s.primary, otherHost, "bystander"); err != nil {
		return err
	}
	c, err := takeCensus(s.primaryDB)
	if err != nil {
		return err
	}
	t.note("On the primary, %s has %d sessions: the application, the standby's walsender, and a batch job that does not know conmgr,", clientHost, c.ofClient)
	t.note("is idle in a transaction and holds a lock (pid %d). %s has %d.", s.batch.pid, otherHost, c.ofOther)

	// The failover manager of this demo: it, too, is told by conmgr.
	_, watch, err := driver.Ask(s.ctx, s.cm.address(), driver.Primary)
	if err != nil {
		return err
	}
	defer watch.Close()
	if err := s.app.written(s.ctx, patience, 5); err != nil {
		return err
	}
	s.frozen = time.Now()
	s.primary.Freeze()
	t.start(s.frozen)
	t.add(s.frozen, "primary", "frozen, %d processes: no packet, no error, just silence", len(s.primary.Processes()))
	t.flush()

	limit := s.detectionLimit() + time.Second
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-watch.Lost():
	case <-timer.C:
		return fmt.Errorf("conmgr's verdict: not seen within %v", limit)
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	var lost *driver.LostError
	if !errors.As(watch.Err(), &lost) {
		return fmt.Errorf("conmgr told of no loss: %v", watch.Err())
	}
	if lost.SQLState != "57P01" { // conmgr itself has ended
		return lost
	}
	verdict, err := s.conmgrLine(patience, s.frozen, `instance 0 .*is lost: (.*)`)
	if err != nil {
		return err
	}
	s.result.detected = verdict.at.Sub(s.frozen)
	t.add(verdict.at, "conmgr", "instance 0 is lost: %s; tells those who are connected to it", verdict.groups[1])
	o, err := s.app.outage(s.ctx, patience, "the application's error", 0, false)
	if err != nil {
		return err
	}
	if !errors.As(o.err, &lost) {
		return fmt.Errorf("the application's error is not the loss of its instance: %w", o.err)
	}
	s.result.told = o.failed.Sub(verdict.at)
	t.add(o.begun, "application", "sends row %d; no answer", o.row)
	t.add(o.failed, "application", "its INSERT returns at once, SQLSTATE %s; safe to repeat: %v", lost.SQLState,
		lost.SafeToRetry())
	t.flush()
	if s.result.detected > s.detectionLimit() {
		return fmt.Errorf("conmgr's verdict came after %v: the limit is %v", s.result.detected, s.detectionLimit())
	}

	begun := time.Now()
	t.add(begun, "manager", "told by conmgr too: promotes the standby (pg_promote)")
	s.standby.Promote()
	s.result.promotion = time.Since(begun)
	t.add(begun.Add(s.result.promotion), "standby", "is a primary, after %d ms", milliseconds(s.result.promotion))
	change, err := s.conmgrLine(patience, begun, fmt.Sprintf(`port=%d\) is changed from '(standby.*)' to '(primary.*)'`,
		s.standby.Port))
	if err != nil {
		return err
	}
	s.result.learned = change.at.Sub(begun) - s.result.promotion
	t.add(change.at, "conmgr", "learns it by a heartbeat: instance 1 is now %s", change.groups[2])
	if o, err = s.app.outage(s.ctx, patience, "the application's next row", 0, true); err != nil {
		return err
	}
	s.result.gap = o.back.Sub(o.lastAck)
	t.add(o.back, "application", "row %d is written, on the new primary, at attempt %d", o.row, o.attempts+1)
	if err := s.app.written(s.ctx, patience, 25); err != nil {
		return err
	}
	return s.routedTo(1)
}

// routedTo checks whom conmgr names for writing.
func (s *script) routedTo(instance int) error {
	got, err := s.ask(driver.ReadWrite)
	if err == nil && got != instance {
		err = fmt.Errorf("conmgr names instance %d for read-write, expected %d", got, instance)
	}
	return err
}

// oldPrimaryWakes: it does not know that it was given up. Its watchdog learns it from conmgr, and
// ends the sessions that nobody uses any more.
func (s *script) oldPrimaryWakes() error {
	t := s.timeline
	t.act("2. The old primary wakes up")
	t.note("It still has the sessions of before, and the batch job's lock; it believes to be the primary.")
	woken := time.Now()
	t.start(woken)
	s.primary.Thaw()
	t.add(woken, "old primary", "goes on where it stood")
	t.flush()
	if err := s.sessionsEnd(s.primary, woken, patience); err != nil {
		return err
	}
	gone, err := s.noneLeft(s.primary, patience)
	if err != nil {
		return err
	}
	s.result.wokenEnded = gone.Sub(woken)
	t.add(gone, "old primary", "no session of %s is left, the lock is free", clientHost)
	if err := s.bystander.exec("SELECT 1"); err != nil {
		return fmt.Errorf("the session of %s, which should live: %w", otherHost, err)
	}
	t.add(time.Now(), "old primary", "the session of %s is untouched", otherHost)
	warning, err := s.conmgrLine(patience, woken, `more than one instance is a primary: .*`)
	if err != nil {
		return err
	}
	t.add(warning.at, "conmgr", "WARNING: %s", warning.text)
	if err := s.routedTo(1); err != nil {
		return err
	}
	t.flush()
	late, err := rowsOf(s.primary, fmt.Sprintf("WHERE at >= to_timestamp(%d / 1000.0)", woken.UnixMilli()))
	if err != nil {
		return err
	}
	s.result.lateRows = len(late)

	begun := time.Now()
	t.add(begun, "manager", "shuts the old primary down")
	s.primary.Stop(pgtest.Fast)
	down, err := s.conmgrLine(patience, begun, `(the server has shut down): instance 0`)
	if err != nil {
		return err
	}
	t.add(down.at, "conmgr", "an announced end is no death, and needs no timeout: instance 0: %s", down.groups[1])
	return nil
}

// sessionsEnd waits for the terminator's message, and tells why it acted.
func (s *script) sessionsEnd(server *pgtest.Cluster, since time.Time, limit time.Duration) error {
	end, err := s.clusterLine(server, limit, since, `terminator: terminated connections: ipaddress="`+clientHost+`".*`)
	if err != nil {
		return err
	}
	why, err := s.clusterLine(server, patience, end.at, `The conmgr process .*|Nothing was received from .*`)
	if err != nil {
		return err
	}
	s.timeline.add(end.at, "watchdog", "%s", why.text)
	s.timeline.add(end.at, "terminator", "%s", strings.TrimPrefix(end.text, "terminator: "))
	return nil
}

// noneLeft waits until the client host has no session and no lock.
func (s *script) noneLeft(server *pgtest.Cluster, limit time.Duration) (gone time.Time, err error) {
	db := s.primaryDB
	if server == s.standby {
		db = s.standbyDB
	}
	err = await(s.ctx, limit, fmt.Sprintf("end of all sessions of %s on %s", clientHost, server.Name),
		func() (bool, error) {
			c, err := takeCensus(db)
			gone = time.Now()
			if err == nil && c.ofClient+c.clientHas > 0 {
				err = fmt.Errorf("%d sessions, %d locks on the table", c.ofClient, c.clientHas)
			}
			return err == nil, err
		})
	return gone, err
}

// clientHostFalls: the other half. The server ends the sessions of a host that says nothing any
// more; when that host is back, its applications are told that, and nobody is blamed for its sleep.
func (s *script) clientHostFalls() error {
	t := s.timeline
	t.act("3. The client host falls silent")
	batch, err := s.lockOrders(s.standby)
	if err != nil {
		return err
	}
	waiter, err := s.open(s.standby, otherHost, "waiter")
	if err != nil {
		return err
	}
	granted := make(chan error, 1)
	var grantedAt time.Time
	go func() {
		err := waiter.exec("BEGIN; LOCK TABLE orders; COMMIT")
		grantedAt = time.Now()
		granted <- err
	}()
	var c census
	err = await(s.ctx, patience, "the session that waits for the lock", func() (ok bool, err error) {
		c, err = takeCensus(s.standbyDB)
		return c.waiting == 1, err
	})
	if err != nil {
		return err
	}
	if err := s.app.pause(s.ctx); err != nil {
		return err
	}
	t.note("On the new primary, %s has %d sessions: the application, and a batch job that holds a lock (pid %d);",
		clientHost, c.ofClient, batch.pid)
	t.note("a session of %s waits for the lock. Now conmgr is stopped with SIGSTOP, and the application pauses: to the server, their host is dead.", otherHost)
	dead := time.Now()
	t.start(dead)
	s.cm.signal(syscall.SIGSTOP)
	t.add(dead, "client host", "silent: its connections stay open, and nothing comes")
	t.flush()
	if err := s.sessionsEnd(s.standby, dead, s.detectionLimit()+time.Second); err != nil {
		return err
	}
	gone, err := s.noneLeft(s.standby, patience)
	if err != nil {
		return err
	}
	s.result.hostEnded = gone.Sub(dead)
	t.add(gone, "new primary", "no session of %s is left", clientHost)
	select {
	case err = <-granted:
	case <-time.After(patience):
		err = errors.New("not granted")
	case <-s.ctx.Done():
		err = context.Cause(s.ctx)
	}
	if err != nil {
		return fmt.Errorf("the lock for the session of %s: %w", otherHost, err)
	}
	t.add(grantedAt, "new primary", "the session of %s has the lock for which it waited", otherHost)
	t.flush()
	if s.result.hostEnded > s.detectionLimit() {
		return fmt.Errorf("the sessions of %s were gone after %v: the limit is %v", clientHost, s.result.hostEnded,
			s.detectionLimit())
	}
	// Longer than its own heartbeat_timeout, to see that it does not blame others for its sleep.
	select {
	case <-time.After(time.Until(dead.Add(s.timeout + s.interval))):
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	return s.clientHostWakes()
}

func (s *script) clientHostWakes() error {
	t := s.timeline
	woken := time.Now()
	s.cm.signal(syscall.SIGCONT)
	t.add(woken, "client host", "is back: conmgr was stopped for longer than heartbeat_timeout")
	told, err := s.conmgrLine(patience, woken, lostPattern.String())
	if err != nil {
		return err
	}
	if reason := told.groups[1]; !strings.HasPrefix(reason, "the server has forgotten this Connection Manager") {
		return fmt.Errorf("conmgr blames instance 1 for its own sleep: %s", reason)
	}
	t.add(told.at, "conmgr", "tells the application what it has missed: %s", told.groups[1])
	again, err := s.conmgrLine(patience, woken, `heartbeat connection is established: instance 1 .*`)
	if err != nil {
		return err
	}
	t.add(again.at, "conmgr", "heartbeat connection to instance 1 is established again")
	before := s.app.connections()
	s.app.resume()
	login, written, row, err := s.app.reconnected(s.ctx, patience, before)
	if err != nil {
		return err
	}
	t.add(login, "application", "its session was ended by the server: database/sql connects again, by way of conmgr")
	t.add(written, "application", "row %d is written", row)
	t.flush()

	// That nothing more is declared lost takes a heartbeat_timeout to be seen.
	select {
	case <-time.After(s.timeout):
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	if l, ok := findLine(s.cm.log(), told.at.Add(time.Millisecond), lostPattern); ok {
		return fmt.Errorf("conmgr has declared an instance lost after it was stopped itself: %s", l.text)
	}
	if err := s.routedTo(1); err != nil {
		return err
	}
	t.add(time.Now(), "conmgr", "has declared nothing else lost: its own sleep is no verdict on others")
	return nil
}
