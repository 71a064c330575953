package test

// Relay ports with stock clients: routed by attribute, woken when the instance is lost in the
// middle of a query, and going on after a promotion.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

const relayConf = "relay_port_read_write = 27547\nrelay_port_standby = 27548\nrelay_port_any = 27549\n"

// relayDSN reaches a relay port from inside the client's host.
func relayDSN(port int) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", port)
}

const (
	relayReadWrite = 27547
	relayStandby   = 27548
	relayAny       = 27549
)

// stock runs a statement with each kind of client, from a host, through a DSN. The result of a
// query is one value.
type stock struct {
	name string
	run  func(ctx context.Context, statement string) (string, error)
}

func (w *world) stocks(from *testnet.Host, dsn string) []stock {
	w.Helper()
	db := w.primary.OpenAt(from, dsn+" application_name=libpq_go")
	w.Cleanup(func() { db.Close() })
	conf, err := pgx.ParseConfig(dsn + " application_name=pgx")
	if err != nil {
		w.Fatalf("%v", err)
	}
	conf.DialFunc = from.Dialer().DialContext
	poolConf, err := pgxpool.ParseConfig(dsn + " application_name=pgxpool")
	if err != nil {
		w.Fatalf("%v", err)
	}
	poolConf.ConnConfig.DialFunc = conf.DialFunc
	pool, err := pgxpool.NewWithConfig(context.Background(), poolConf)
	if err != nil {
		w.Fatalf("%v", err)
	}
	w.Cleanup(pool.Close)
	return []stock{
		{"psql", func(ctx context.Context, statement string) (string, error) {
			cmd := from.Command(ctx, "psql", "-X", "-At", "-d", dsn+" application_name=psql", "-c", statement)
			// where libpq can: cancel keys of 32 bytes
			cmd.Env = append(os.Environ(), "PGMAXPROTOCOLVERSION=3.2")
			// as Ctrl-C: psql sends a CancelRequest
			cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return strings.TrimSpace(string(out)), err
		}},
		{"lib/pq", func(ctx context.Context, statement string) (v string, err error) {
			err = db.QueryRowContext(ctx, statement).Scan(&v)
			return v, err
		}},
		{"pgx", func(ctx context.Context, statement string) (v string, err error) {
			c, err := pgx.ConnectConfig(ctx, conf)
			if err != nil {
				return "", err
			}
			defer c.Close(context.Background())
			err = c.QueryRow(ctx, statement).Scan(&v)
			return v, err
		}},
		{"pgxpool", func(ctx context.Context, statement string) (v string, err error) {
			err = pool.QueryRow(ctx, statement).Scan(&v)
			return v, err
		}},
	}
}

// TestRelayClients is the life of each stock client: it is routed by attribute, its query is ended
// by the loss, and it goes on with the new primary.
func TestRelayClients(t *testing.T) {
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	standby := w.primary.Standby("standby", pgtest.Host(db2))
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "2s",
		Clusters: []*pgtest.Cluster{w.primary, standby}, Extra: relayConf})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()

	clients := w.stocks(client, relayDSN(relayReadWrite))
	const who = "SELECT current_setting('cluster_name') || ' ' || pg_is_in_recovery()"
	routed := func(clients []stock, want string) {
		t.Helper()
		for _, c := range clients {
			if got, err := c.run(ctx, who); err != nil || got != want {
				t.Errorf("%s: %q, %v, want %s", c.name, got, err, want)
			}
		}
	}
	routed(clients, "primary false")
	routed(w.stocks(client, relayDSN(relayStandby)), "standby true")

	type ended struct {
		name string
		blocked
	}
	results := make(chan ended, len(clients))
	for _, c := range clients {
		go func() {
			_, err := c.run(ctx, "SELECT pg_sleep(600)::text")
			results <- ended{c.name, blocked{err, testnet.Monotonic()}}
		}()
	}
	for _, application := range []string{"psql", "libpq_go", "pgx", "pgxpool"} {
		w.sleeping(application, 1)
	}
	rows := 0
	for _, row := range cm.Show("SHOW APPLICATIONS") {
		if row["via"] == "relay" && row["target"] == "read-write" && row["instance"] == "0" &&
			row["client_addr"] == "127.0.0.1" {
			rows++
		}
	}
	if rows != len(clients) {
		t.Errorf("%d relayed connections are shown, want %d: %v", rows, len(clients), cm.Show("SHOW APPLICATIONS"))
	}
	stalls := testkit.WatchStalls()
	mark := cm.Mark()
	cut := w.net.Isolate(w.db)
	verdict := cm.WaitLog(mark, lostBySilence, patience).At
	for range clients {
		r := <-results
		took := r.at - verdict
		t.Logf("%s: %v after the verdict: %v", r.name, took, r.err)
		if r.err == nil || took > soonTold { // psql has to write its message and end
			t.Errorf("%s: %v after the verdict: %v", r.name, took, r.err)
		}
	}
	t.Logf("this machine stalled for up to %v", stalls.Longest())

	_, err := clients[2].run(ctx, who) // nobody takes writes now
	if err == nil || !strings.Contains(err.Error(), "no target server address from Connection Manager (SQLSTATE 08001)") {
		t.Errorf("pgx without a primary: %v", err)
	}
	standby.Promote()
	cm.WaitInstance(1, "role", "primary")
	routed(clients, "standby false") // its name remains
	cut.Heal()
}

// TestRelayCancel: a query is cancelled, and the session lives; also one whose instance takes no
// new sessions of the port any more.
func TestRelayCancel(t *testing.T) {
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	standby := w.primary.Standby("standby", pgtest.Host(db2))
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "200ms", Timeout: "10s",
		Clusters: []*pgtest.Cluster{w.primary, standby}, Extra: relayConf})
	cm.WaitInstance(1, "role", "standby")
	canceled := func(c stock, db *pgtest.Cluster) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := c.run(ctx, "SELECT pg_sleep(600)::text")
			done <- err
		}()
		sleepers := func() string {
			return db.Value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
		}
		eventually(t, c.name+" waits", func() (bool, string) { return sleepers() == "1", "" })
		since := db.LogSize()
		cancel()
		db.WaitLog(since, "canceling statement due to user request", patience)
		<-done
		eventually(t, c.name+"'s query has ended", func() (bool, string) { return sleepers() == "0", "" })
	}
	for _, c := range w.stocks(client, relayDSN(relayStandby)) {
		if strings.HasPrefix(c.name, "pgx") {
			continue // a pgx context closes the connection; its CancelRequest is tested below
		}
		canceled(c, standby)
	}
	conf, err := pgx.ParseConfig(relayDSN(relayStandby))
	if err != nil {
		t.Fatal(err)
	}
	conf.DialFunc = client.Dialer().DialContext
	old, err := pgx.ConnectConfig(context.Background(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close(context.Background())
	standby.Promote() // its session remains, and nobody is a standby now
	cm.WaitInstance(1, "role", "primary")
	done := make(chan error, 1)
	go func() {
		_, err := old.Exec(context.Background(), "SELECT pg_sleep(600)")
		done <- err
	}()
	eventually(t, "the query runs", func() (bool, string) {
		return standby.Value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1", ""
	})
	if err := old.PgConn().CancelRequest(context.Background()); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "57014") {
		t.Errorf("after the cancel: %v", err)
	}
	var one int
	if err := old.QueryRow(context.Background(), "SELECT 1").Scan(&one); err != nil {
		t.Errorf("the session after the cancel: %v", err)
	}
}

// TestRelayFiveHundred: all of 500 clients are woken.
func TestRelayFiveHundred(t *testing.T) {
	w := newWorld(t, pgtest.Set("max_connections", "600"), pgtest.Set("shared_buffers", "64MB"))
	client := w.net.Host("client")
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "2s",
		Clusters: []*pgtest.Cluster{w.primary}, Extra: relayConf})
	cm.WaitInstance(0, "state", "established")
	wait := w.crowd(client, relayDSN(relayReadWrite), "relayed", 500)
	mark, stalls := cm.Mark(), testkit.WatchStalls()
	cut := w.silence(client)
	verdict := cm.WaitLog(mark, lostBySilence, patience).At
	results := wait()
	w.woken("relay", results, verdict, stalls.Longest())
	for _, r := range results {
		if !errors.Is(r.err, syscall.ECONNRESET) && !strings.Contains(r.err.Error(), "bad connection") {
			t.Errorf("a relayed client got: %v", r.err)
			break
		}
	}
	cm.WaitLog(mark, `reset 500 relayed connections because of the loss of instance 0`, patience)
	w.primary.Thaw()
	cut.Heal()
	eventually(t, "no relayed connection is left", func() (bool, string) {
		rows := cm.Show("SHOW APPLICATIONS")
		return len(rows) == 0, fmt.Sprint(len(rows))
	})
	for _, c := range w.stocks(client, relayDSN(relayReadWrite)) {
		cm.WaitInstance(0, "state", "established")
		if got, err := c.run(context.Background(), "SELECT 'again'"); err != nil || got != "again" {
			t.Errorf("%s after the loss: %q, %v", c.name, got, err)
		}
	}
}

// TestRelayLostWhileConnecting: the instance dies between its last heartbeat and the connection;
// the client does not notice, as at the verdict it is taken to the next one.
func TestRelayLostWhileConnecting(t *testing.T) {
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	standby := w.primary.Standby("standby", pgtest.Host(db2))
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "200ms", Timeout: "1s",
		Clusters: []*pgtest.Cluster{w.primary, standby}, Extra: relayConf})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	cut := w.net.Cut(client, w.db)
	for _, c := range w.stocks(client, relayDSN(relayAny)) {
		if got, err := c.run(context.Background(), "SELECT current_setting('cluster_name')"); err != nil ||
			got != "standby" {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	cut.Heal()
}

// TestRelayAddresses: relay ports take clients of this host alone, unless networks are named.
func TestRelayAddresses(t *testing.T) {
	w := newWorld(t)
	client, other := w.net.Host("client"), w.net.Host("other")
	const everywhere = "listen_addresses = '*'\n"
	for setting, open := range map[string]bool{"": false, everywhere: false,
		everywhere + "relay_allowed_networks = '10.77.0.0/16, fd77::/16'\n": true} {
		cm := cmtest.Start(t, client, cmtest.Config{Interval: "200ms", Timeout: "2s",
			Clusters: []*pgtest.Cluster{w.primary}, Extra: relayConf + setting})
		cm.WaitInstance(0, "state", "established")
		for _, address := range []string{client.Addr4.String(), client.Addr6.String()} {
			_, out := w.psql(other, fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", address,
				relayReadWrite), "SELECT 'through'")
			if got := <-out; strings.HasPrefix(got, "through") != open || setting == "" &&
				!strings.Contains(got, "Connection refused") {
				t.Errorf("%q: from another host, by %s: %s", setting, address, got)
			}
		}
		cm.Signal(syscall.SIGTERM)
		cm.Wait(patience)
	}
}

// TestRelayShutdown: smart waits for the relayed sessions, fast resets them.
func TestRelayShutdown(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	start := func() *cmtest.Conmgr {
		cm := cmtest.Start(t, client, cmtest.Config{Interval: "200ms", Timeout: "2s",
			Clusters: []*pgtest.Cluster{w.primary}, Extra: relayConf})
		cm.WaitInstance(0, "state", "established")
		return cm
	}
	cm := start()
	s := w.sessionAt(client, relayDSN(relayReadWrite), "BEGIN")
	cm.Signal(syscall.SIGINT)
	cm.WaitLog(0, "received smart shutdown request", patience)
	w.alive(s, "a relayed session during a smart shutdown")
	eventually(t, "psql is turned away", func() (bool, string) { // that is logged before it is so
		_, out := w.psql(client, relayDSN(relayReadWrite), "SELECT 1")
		got := <-out
		return strings.Contains(got, "the Connection Manager is shutting down"), got
	})
	if !cm.Running() {
		t.Error("the shutdown did not wait for the relayed session")
	}
	s.conn.Close()
	s.db.Close()
	if code := cm.Wait(patience); code != 0 {
		t.Errorf("exit status %d", code)
	}
	cm = start()
	s = w.sessionAt(client, relayDSN(relayReadWrite), "BEGIN")
	done := s.start("SELECT pg_sleep(600)")
	w.waitEvent(s.pid, "PgSleep")
	cm.Signal(syscall.SIGTERM)
	if err := <-done; err == nil {
		t.Error("a relayed query outlived a fast shutdown")
	}
	if code := cm.Wait(patience); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
