package main

// What servers and conmgr say: their logs, and who has a session. Used by the script's goroutine;
// waits poll, up to a limit.

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

// await waits until cond is true. It polls: logs and pg_stat_activity tell nobody when they change.
func await(ctx context.Context, limit time.Duration, what string, cond func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	pause := time.Millisecond
	for {
		late := time.Now().After(deadline)
		ok, err := cond()
		switch {
		case ok:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case late && err != nil:
			return fmt.Errorf("%s: not seen within %v: %w", what, limit, err)
		case late:
			return fmt.Errorf("%s: not seen within %v", what, limit)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		if pause < 8*time.Millisecond {
			pause *= 2
		}
	}
}

// logLine is a message of a log.
type logLine struct {
	at     time.Time
	text   string
	groups []string // of the pattern; 0 is all that matched
}

// Messages of the servers (log_line_prefix of pgtest) and of conmgr begin alike, with the wall
// clock in UTC.
var messageStart = regexp.MustCompile(`^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) UTC \[\d+\] (?:.* )?(?:LOG|WARNING|DETAIL):  (.*)$`)

// findLine returns the first message that matches and is not older than since.
func findLine(log string, since time.Time, pattern *regexp.Regexp) (l logLine, ok bool) {
	since = since.Truncate(time.Millisecond)
	for line := range strings.Lines(log) {
		m := messageStart.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		at, err := time.Parse("2006-01-02 15:04:05.000", m[1])
		if err != nil || at.Before(since) {
			continue
		}
		if groups := pattern.FindStringSubmatch(m[2]); groups != nil {
			return logLine{at, m[2], groups}, true
		}
	}
	return logLine{}, false
}

// awaitLine waits for a message.
func awaitLine(ctx context.Context, limit time.Duration, name string, read func() string, since time.Time,
	pattern string) (l logLine, err error) {
	re := regexp.MustCompile(pattern)
	err = await(ctx, limit, fmt.Sprintf("message of %s that matches %q", name, pattern), func() (ok bool, _ error) {
		l, ok = findLine(read(), since, re)
		return ok, nil
	})
	return l, err
}

// census is who has a session on a server, and who holds the table.
type census struct {
	ofClient  int // sessions and walsenders of the client host
	ofOther   int // of the other host
	clientHas int // locks of the client host's sessions on the table orders
	waiting   int // sessions that wait for one
}

// takeCensus asks by Unix-domain socket: no terminator ends that.
func takeCensus(db *sql.DB) (c census, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err = db.QueryRowContext(ctx, fmt.Sprintf(`
		WITH a AS (SELECT pid, client_addr FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender')),
		     l AS (SELECT pid, granted FROM pg_locks WHERE relation = 'orders'::regclass)
		SELECT (SELECT count(*) FROM a WHERE client_addr = '%[1]s'), (SELECT count(*) FROM a WHERE client_addr = '%[2]s'),
		       (SELECT count(*) FROM l JOIN a USING (pid) WHERE granted AND client_addr = '%[1]s'), (SELECT count(*) FROM l WHERE NOT granted)`,
		clientHost, otherHost)).Scan(&c.ofClient, &c.ofOther, &c.clientHas, &c.waiting)
	return c, err
}

// rowsOf returns the application's rows on a server.
func rowsOf(server *pgtest.Cluster, where string) (rows []int64, err error) {
	text, err := server.TryQuery("SELECT n FROM ledger " + where)
	for _, r := range text {
		var n int64
		if _, err := fmt.Sscan(r[0], &n); err != nil {
			return nil, err
		}
		rows = append(rows, n)
	}
	return rows, err
}
