package main

// The application: one goroutine that writes a row after the other through conmgr, and tries again
// when it cannot. It blocks in database/sql. What it went through is read by the script.

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"fmt"
	"sync"
	"time"

	"github.com/pgwatchdog/watchdog/driver/pqcm"
)

// pace of the application's writes.
const pace = 20 * time.Millisecond

// outage is a time in which the application could not write.
type outage struct {
	lastAck  time.Time // the last row acknowledged before it
	row      int64     // the row that failed first
	begun    time.Time // when that was sent
	failed   time.Time // when its error came
	err      error
	lastErr  error // of the last attempt
	attempts int   // that failed
	back     time.Time
}

type application struct {
	db     *sql.DB
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed, and renewed, at each change of the following
	acked   []int64
	lastAck time.Time
	outages []outage
	paused  bool
	idle    bool      // paused, and no statement under way
	logins  int       // connections made
	login   time.Time // the last one
}

// counting counts the connections that database/sql makes.
type counting struct {
	sqldriver.Connector
	made func()
}

func (c *counting) Connect(ctx context.Context) (sqldriver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err == nil {
		c.made()
	}
	return conn, err
}

// startApplication connects by way of a conmgr.
func startApplication(ctx context.Context, dsn string) (*application, error) {
	connector, err := pqcm.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &application{cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	a.db = sql.OpenDB(&counting{connector, func() {
		a.update(func() { a.logins, a.login = a.logins+1, time.Now() })
	}})
	a.db.SetMaxOpenConns(1)
	go a.run(ctx)
	return a, nil
}

// stop ends the application. (Thaw its server first: a cancel request waits for the answer.)
func (a *application) stop() {
	a.cancel()
	<-a.done
	a.db.Close()
}

func (a *application) run(ctx context.Context) {
	defer close(a.done)
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for row := int64(1); ; {
		if a.gate(ctx); ctx.Err() != nil {
			return
		}
		begun := time.Now()
		_, err := a.db.ExecContext(ctx, fmt.Sprintf("INSERT INTO ledger (n) VALUES (%d)", row))
		if ctx.Err() != nil {
			return
		}
		a.record(row, begun, time.Now(), err)
		if err == nil {
			row++
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (a *application) record(row int64, begun, now time.Time, err error) {
	a.update(func() {
		down := len(a.outages) > 0 && a.outages[len(a.outages)-1].back.IsZero()
		switch {
		case err == nil:
			a.acked = append(a.acked, row)
			a.lastAck = now
			if down {
				a.outages[len(a.outages)-1].back = now
			}
		case down:
			o := &a.outages[len(a.outages)-1]
			o.attempts++
			o.lastErr = err
		default:
			a.outages = append(a.outages, outage{lastAck: a.lastAck, row: row, begun: begun, failed: now, err: err,
				lastErr: err, attempts: 1})
		}
	})
}

// update changes the state and wakes those who wait for that.
func (a *application) update(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	close(a.changed)
	a.changed = make(chan struct{})
}

// wait waits until cond, which is called with the state locked, is true.
func (a *application) wait(ctx context.Context, limit time.Duration, what string, cond func() bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		a.mu.Lock()
		ok, changed := cond(), a.changed
		state := fmt.Sprintf("%d rows, %d outages", len(a.acked), len(a.outages))
		if n := len(a.outages); n > 0 && a.outages[n-1].back.IsZero() {
			state += fmt.Sprintf(", the last error is: %v", a.outages[n-1].lastErr)
		}
		a.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("%s: not seen within %v (application: %s)", what, limit, state)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// outage waits for the number-th failure, and if back, for its end.
func (a *application) outage(ctx context.Context, limit time.Duration, what string, number int, back bool) (o outage,
	err error) {
	err = a.wait(ctx, limit, what, func() bool {
		if len(a.outages) <= number {
			return false
		}
		o = a.outages[number]
		return !back || !o.back.IsZero()
	})
	return o, err
}

// written waits until n more rows are acknowledged.
func (a *application) written(ctx context.Context, limit time.Duration, n int) error {
	a.mu.Lock()
	goal := len(a.acked) + n
	a.mu.Unlock()
	return a.wait(ctx, limit, fmt.Sprintf("%d more rows written by the application", n),
		func() bool { return len(a.acked) >= goal })
}

// gate holds the application while it is paused.
func (a *application) gate(ctx context.Context) {
	for {
		a.mu.Lock()
		if !a.paused {
			a.idle = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		a.update(func() { a.idle = true })
		a.mu.Lock()
		paused, changed := a.paused, a.changed
		a.mu.Unlock()
		if !paused {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// connections returns how many connections it has made.
func (a *application) connections() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.logins
}

// reconnected waits until there are more than that, and a row has been written by the last.
func (a *application) reconnected(ctx context.Context, limit time.Duration, before int) (login, row time.Time,
	number int64, err error) {
	err = a.wait(ctx, limit, "the application's next row, by another connection", func() bool {
		login, row = a.login, a.lastAck
		number = int64(len(a.acked))
		return a.logins > before && row.After(login)
	})
	return login, row, number, err
}

// pause stops the application between two statements, as its host's death does: it keeps its
// session.
func (a *application) pause(ctx context.Context) error {
	a.update(func() { a.paused = true })
	return a.wait(ctx, 5*time.Second, "pause of the application", func() bool { return a.idle })
}

func (a *application) resume() { a.update(func() { a.paused = false }) }

// rows returns the numbers of the rows that were acknowledged.
func (a *application) rows() []int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]int64(nil), a.acked...)
}

// account compares what the application was told with what a server has.
func account(acked, found []int64) (lost, duplicates int) {
	times := map[int64]int{}
	for _, n := range found {
		times[n]++
		if times[n] > 1 {
			duplicates++
		}
	}
	for _, n := range acked {
		if times[n] == 0 {
			lost++
		}
	}
	return lost, duplicates
}
