package test

// How a drained server ends sessions: between transactions, after what their clients have sent, and
// never in a transaction's middle.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// drainCode is the SQLSTATE with which a session ends between transactions.
func (w *world) drainCode() string {
	if w.primary.Value("SELECT current_setting('server_version_num')::int >= 140000") == "true" {
		return "57P05"
	}
	return "57P01"
}

// untilEnd is what a session still gets: a letter for each ReadyForQuery (its status), the command
// tags, and the SQLSTATEs of errors.
func untilEnd(conn net.Conn, fe *pgproto3.Frontend) string {
	var got []string
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	for {
		m, err := fe.Receive()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				got = append(got, "silence")
			}
			return strings.Join(got, " ")
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			got = append(got, string(m.TxStatus))
		case *pgproto3.CommandComplete:
			got = append(got, strings.ReplaceAll(string(m.CommandTag), " ", "_"))
		case *pgproto3.ErrorResponse:
			got = append(got, m.Code)
		}
	}
}

// TestDrainGrace: when it is over, sessions end between transactions: those that are idle at once,
// the others when they have done what their clients have sent.
func TestDrainGrace(t *testing.T) {
	l := newLeavers(t, pgtest.Set("watchdog.drain_grace", "1s"), pgtest.Set("max_prepared_transactions", "2"))
	const slow = "SELECT pg_sleep(2.5)"
	queries := map[string][]string{
		"INSERT_0_1 SELECT_1 COMMIT BEGIN INSERT_0_1 COMMIT INSERT_0_1 I ":    {"INSERT INTO t VALUES (10); " + slow + "; COMMIT; BEGIN; INSERT INTO t VALUES (11); COMMIT; INSERT INTO t VALUES (12)"},
		"SELECT_1 I INSERT_0_1 I BEGIN T INSERT_0_1 T COMMIT I INSERT_0_1 I ": {slow, "INSERT INTO t VALUES (20)", "BEGIN", "INSERT INTO t VALUES (21)", "COMMIT", "INSERT INTO t VALUES (22)"},
		"SELECT_1 I 22012 I INSERT_0_1 I ":                                    {slow, "SELECT 1/0", "INSERT INTO t VALUES (30)"},
		"BEGIN T SELECT_1 T 22012 E ROLLBACK I ":                              {"BEGIN", slow, "SELECT 1/0", "ROLLBACK"},
		"SELECT_1 I ":                                                         {slow},
		"BEGIN T SELECT_1 T PREPARE_TRANSACTION I COMMIT_PREPARED I ":         {"BEGIN", slow, "PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'"},
		"LISTEN I NOTIFY I SELECT_1 I ":                                       {"LISTEN c", "NOTIFY c", slow},
	}
	code := l.drainCode()
	type client struct {
		net.Conn
		*pgproto3.Frontend
	}
	clients := map[string]client{}
	for want := range queries {
		conn, fe, _ := l.frontend(l.client, nil)
		clients[want] = client{conn, fe}
	}
	idleConn, idle, idlePid := l.frontend(l.client, nil)
	var wg sync.WaitGroup
	for want, list := range queries { // when all are connected: none may be done before the last one has begun
		c := clients[want]
		for _, q := range list {
			if err := c.Send(&pgproto3.Query{String: q}); err != nil {
				t.Fatal(err)
			}
		}
		wg.Go(func() {
			if got := untilEnd(c.Conn, c.Frontend); got != want+code {
				t.Errorf("got  %s\nwant %s", got, want+code)
			}
		})
	}
	l.waitQueries(len(queries)) // all have been begun
	begun := testnet.Monotonic()
	l.drain(l.primary, true, true)
	young := l.session(l.client)
	if got := untilEnd(idleConn, idle); got != code {
		t.Errorf("an idle session got %q", got)
	}
	if d := testnet.Monotonic() - begun; d < time.Second || d > patience/2 {
		t.Errorf("an idle session has ended %v after the drain", d)
	}
	l.waitGone(idlePid, patience, "an idle session")
	l.waitGone(l.idle.pid, patience, "an idle session")
	wg.Wait()
	if got := l.primary.Value("SELECT string_agg(a::text, ' ' ORDER BY a) FROM t"); got != "10 11 12 20 21 22 30" {
		t.Errorf("rows: %s", got)
	}
	// In a transaction, as long as it takes.
	for _, statement := range []string{"INSERT INTO t VALUES (2)", "COMMIT"} {
		if _, err := l.inTx.conn.ExecContext(context.Background(), statement); err != nil {
			t.Errorf("%s in a transaction of before the drain: %v", statement, err)
		}
	}
	l.waitGone(l.inTx.pid, patience, "a session whose transaction has ended")
	if _, err := l.aborted.conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
		t.Error(err)
	}
	l.waitGone(l.aborted.pid, patience, "a session whose transaction has failed, and was ended")
	if got := l.primary.Value("SELECT count(*) FROM t WHERE a < 10"); got != "2" {
		t.Errorf("%s rows of the transaction", got)
	}
	l.stay(young, l.unix)
}

// waitQueries waits until so many sessions sleep in SQL.
func (w *world) waitQueries(n int) {
	w.Helper()
	eventually(w, fmt.Sprintf("%d queries run", n), func() (bool, string) {
		got := w.primary.Value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
		return got == fmt.Sprint(n), got
	})
}

// busy is a client that runs one small transaction after the other, and notes what becomes of them.
type busy struct {
	broken, crossed, committed atomic.Int64
	first                      atomic.Pointer[string] // what has broken a transaction
}

// one runs transactions until its session ends.
func (b *busy) one(conn net.Conn, fe *pgproto3.Frontend, id int) {
	for {
		statements := []string{"BEGIN", fmt.Sprintf("INSERT INTO t VALUES (%d)", id), fmt.Sprintf("INSERT INTO t VALUES (%d)", id),
			"COMMIT"}
		for i, s := range statements {
			got, err := exchange(conn, fe, s)
			if err != nil || got == "" {
				if i > 0 {
					text := fmt.Sprintf("%s: %v", s, err)
					b.broken.Add(1)
					b.first.CompareAndSwap(nil, &text)
				} else {
					b.crossed.Add(1)
				}
				return
			}
		}
		b.committed.Add(1)
		if rand.IntN(4) == 0 {
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond) // as applications think
		}
	}
}

// exchange sends a query and waits for the end of its answer.
func exchange(conn net.Conn, fe *pgproto3.Frontend, query string) (status string, err error) {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := fe.Send(&pgproto3.Query{String: query}); err != nil {
		return "", err
	}
	for {
		m, err := fe.Receive()
		if err != nil {
			return "", err
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return "", fmt.Errorf("%s (%s)", m.Message, m.Code)
		case *pgproto3.ReadyForQuery:
			return string(m.TxStatus), nil
		}
	}
}

// TestDrainBusy: sessions that are idle for a tenth of a millisecond three times a second are left
// alone for five seconds, and end then, after a statement; also one that never sees an interrupt
// outside of a transaction. What a client has sent by then is done, though nobody has read it yet.
func TestDrainBusy(t *testing.T) {
	w := newWorld(t, pgtest.Set("watchdog.drain_grace", "0"))
	client := w.net.Host("client")
	w.primary.Exec("CREATE TABLE t (a int)")
	var wg sync.WaitGroup
	var begun atomic.Int64
	late, fe, pid := w.frontend(client, nil)
	for i, query := range []string{"SELECT pg_sleep(8)", "INSERT INTO t VALUES (1)"} {
		if err := fe.Send(&pgproto3.Query{String: query}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			w.waitEvent(pid, "PgSleep") // the next one stays in the socket
		}
	}
	wg.Go(func() {
		if got, want := untilEnd(late, fe), "SELECT_1 I INSERT_0_1 I "+w.drainCode(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	for _, statement := range []string{"SELECT pg_sleep(0.3)",
		"DO $$ BEGIN PERFORM pg_sleep(0.3); LOCK TABLE t IN ACCESS SHARE MODE; END $$"} { // which takes it in
		conn, fe, _ := w.frontend(client, nil)
		if _, err := exchange(conn, fe, statement); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for late := 0; late <= 5; {
				_, err := exchange(conn, fe, statement)
				at := time.Duration(begun.Load())
				now := testnet.Monotonic() - at
				if err != nil {
					t.Logf("%s: ended %v after the drain: %v", statement, now, err)
					if at == 0 || now < 5*time.Second {
						t.Errorf("that was too early")
					}
					return
				}
				if at > 0 && now > 7*time.Second { // the five seconds, and until the terminator looks again
					late++
				}
			}
			t.Errorf("%s: it goes on", statement)
		})
	}
	before := testnet.Monotonic()
	w.drain(w.primary, true, true)
	begun.Store(int64(before))
	wg.Wait()
	if n := w.primary.Value("SELECT count(*) FROM t"); n != "1" {
		t.Errorf("%s rows of what had been sent", n)
	}
}

// TestDrainBreaksNothing: sessions that are never idle for long end all the same, and in thousands of
// transactions none is broken. Who sends the next one in that very moment loses it before it begins.
func TestDrainBreaksNothing(t *testing.T) {
	const sessions, rounds = 30, 3
	w := newWorld(t, pgtest.Set("watchdog.drain_grace", "0"), pgtest.Set("max_connections", "60"))
	client := w.net.Host("client")
	w.primary.Exec("CREATE TABLE t (a int)")
	var b busy
	for range rounds {
		var wg sync.WaitGroup
		before := b.committed.Load()
		for id := range sessions {
			conn, fe, _ := w.frontend(client, nil)
			wg.Go(func() { b.one(conn, fe, id) })
		}
		eventually(t, "transactions", func() (bool, string) { return b.committed.Load() > before+10*sessions, "" })
		w.drain(w.primary, true, true)
		wg.Wait()
		w.drain(w.primary, false, false)
	}
	t.Logf("%d transactions committed, %d lost before they began, of %d sessions that ended", b.committed.Load(),
		b.crossed.Load(), sessions*rounds)
	if n := b.broken.Load(); n > 0 {
		t.Errorf("%d transactions were broken, the first by %s", n, *b.first.Load())
	}
	if n := w.primary.Value("SELECT count(*) FROM t"); n != fmt.Sprint(2*b.committed.Load()) {
		t.Errorf("%s rows of %d transactions", n, b.committed.Load())
	}
}
