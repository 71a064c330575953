// Package suite is what every adapter of the Go client is held to, whatever driver it is for: each
// behaviour is stated here once, and is run by the tests of each adapter, against a real primary
// with its standby and a conmgr whose instances do what the case says.
//
//	suite.go     what an adapter has to offer to be tested, and the list of the cases
//	routing.go   which server a connection string leads to
//	security.go  TLS and passwords
//	trust.go     whom an adapter believes, and what
//	labels.go    sessions say whose they are
//	waiting.go   no instance has the attribute yet
//	refusal.go   instances, and conmgrs, that do not take a connection
//	loss.go      an instance, or its conmgr, is lost
//	drain.go     an instance is drained: nothing is lost
//	cancel.go    cancel requests, contexts and timeouts
//	servers.go   the servers, as seen past the adapter
//
// Runs in the goroutines of a test; blocks on the servers, each time for patience at most.
package suite

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/driver/internal/livepg"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/leak"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const patience = 20 * time.Second // far beyond what anything here takes

// Adapter is a driver with its adapter.
type Adapter struct {
	// Open makes a pool of that many connections at most. It fails if the connection string is wrong,
	// and does not connect.
	Open func(connString string, most int) (Pool, error)
	// SQLState is that of the driver's own error for what a server has answered; empty if err has
	// none.
	SQLState func(err error) string
	// SSLModes are those that the driver knows, without those that verify.
	SSLModes []string
	// Leftovers is how many connections that were lost the pool may keep until somebody asks for
	// them, to be replaced then.
	Leftovers int
	// Untold says that the pool has no way to be told of a drain.
	Untold bool
}

// Crowd is how many connections a pool has at most, where a case does not say.
const Crowd = 200

// Pool is the adapter at work.
type Pool interface {
	// Value runs a query of one row and one column of type text.
	Value(ctx context.Context, query string) (string, error)
	Begin(ctx context.Context) (Tx, error)
	// Warm makes n connections, and leaves them idle in the pool.
	Warm(ctx context.Context, n int) error
	// Connections counts those that the pool has.
	Connections() int
	Close()
}

// Tx is a transaction.
type Tx interface {
	Value(ctx context.Context, query string) (string, error)
	Exec(ctx context.Context, statement string) error
	Commit(ctx context.Context) error
}

// Main runs a test program with a primary and its standby.
func Main(m *testing.M, pair **livepg.Pair) {
	if impostorMain() {
		return
	}
	code := 1
	err := testkit.Program(context.Background(), os.Stderr, func(r *testkit.Run) {
		*pair = livepg.Start(r)
		code = m.Run()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// row is a case.
type row struct {
	name string
	run  func(*test)
}

// Test holds an adapter to all cases.
func Test(t *testing.T, pair *livepg.Pair, a Adapter) {
	run(t, pair, a, []row{
		{"BadConnString", badConnString},
		{"AttributesByConmgr", attributesByConmgr},
		{"AttributesOfServers", attributesOfServers},
		{"MixedList", mixedList},
		{"UnixSocket", unixSocket},
		{"NoTarget", noTarget},
		{"VerifyFull", verifyFull},
		{"RemoteConmgrIsNotAskedIfTLSIsRequired", remoteConmgr},
		{"PasswordFileByInstanceName", passwordFile},
		{"WrongPassword", wrongPassword},
		{"ForeignConmgr", foreignConmgr},
		{"ConmgrThatClosesAtOnce", hastyConmgr},
		{"ConmgrThatNeverAccepts", neverAccepts},
		{"UnsoundAnswers", unsoundAnswers},
		{"PinnedHosts", pinnedHosts},
		{"UnixSocketOfConmgr", unixConmgr},
		{"ZeroBytes", zeroBytes},
		{"AuthenticationFailureEndsTheAttempt", authenticationFails},
		{"Labels", labels},
		{"LabelsOfOthers", labelsOfOthers},
		{"LabelsAndPoolers", labelsAndPoolers},
		{"WaitsForAnInstance", waits},
		{"WaitIsConmgrs", waitIsConmgrs},
		{"WaitWithinConnectTimeout", waitWithinConnectTimeout},
		{"WaitOfSeveralHosts", waitOfSeveralHosts},
		{"WaitForOneThatRefuses", waitForOneThatRefuses},
		{"WaitEndsWithTheContext", waitEndsWithTheContext},
		{"BadWait", badWait},
		{"InstanceInSpiteOfExcept", inSpiteOfExcept},
		{"FullConmgr", fullConmgr},
		{"RefusingInstanceIsLeftOut", refusingInstance},
		{"EveryInstanceRefuses", everyInstanceRefuses},
		{"RefusingServers", refusingServers},
		{"ContextEndsTheWalk", contextEndsTheWalk},
		{"SmartShutdownOfConmgr", smartShutdown},
		{"EndOfConmgrsShutdown", endOfShutdown},
		{"LossWakesBlockedQueriesAndTheNextGoesElsewhere", loss},
		{"LossOfIdleConnections", lossOfIdle},
		{"LossInTransaction", lossInTransaction},
		{"LossWhileLoggingIn", lossInLogin},
		{"ConmgrCrashes", conmgrCrashes},
		{"ConmgrIsBack", conmgrIsBack},
		{"InstanceDiesWhileConmgrIsAway", instanceDiesMeanwhile},
		{"InstanceIsLostBeforeConmgrIsAsked", lostBefore},
		{"Cancel", cancel},
		{"CancelOfALostInstance", cancelLost},
		{"Context", contextOfConnect},
		{"ConnectTimeout", connectTimeout},
		{"NoConnectTimeout", noConnectTimeout},
	})
	if !a.Untold {
		TestDrains(t, pair, a)
	}
}

// TestDrains holds a pool to the cases of drains.
func TestDrains(t *testing.T, pair *livepg.Pair, a Adapter) {
	run(t, pair, a, []row{
		{"DrainOfIdleConnections", drainOfIdle},
		{"DrainInTransaction", drainInTransaction},
		{"DrainsUnderLoad", drainsUnderLoad},
		{"EndedWhileIdle", endedWhileIdle},
	})
}

func run(t *testing.T, pair *livepg.Pair, a Adapter, rows []row) {
	for _, c := range rows {
		t.Run(c.name, func(t *testing.T) {
			leak.Check(t)
			c.run(&test{T: t, adapter: a, pair: pair})
		})
	}
}

// test is one case.
type test struct {
	*testing.T
	adapter Adapter
	pair    *livepg.Pair
}

// conmgr is one that knows the pair. At the end of the case, when the pools are closed, no
// connection to it may be left, however the case went.
func (t *test) conmgr() *scripted.Conmgr {
	t.Helper()
	return t.configured("")
}

// configured is a conmgr with these lines in its conmgr.conf.
func (t *test) configured(lines string) *scripted.Conmgr {
	t.Helper()
	ports, err := testkit.FreePorts(1) // nobody's, also while another conmgr is to come back to it
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0]))
	if err != nil {
		t.Fatal(err)
	}
	s, err := scripted.Start(scripted.Options{Listener: l, Conf: lines}, t.pair.Instances()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer s.Close()
		if !t.Failed() {
			testkit.Eventually(t, patience, "the end of all watches", func() (bool, string) {
				n := s.Connections()
				return n == 0, fmt.Sprintf("%d connections to conmgr", n)
			})
		}
	})
	return s
}

// hostile is something in a conmgr's place.
func (t *test) hostile(script hostile.Script) *hostile.Server {
	t.Helper()
	s, err := hostile.New(script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (t *test) within() context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (t *test) open(format string, args ...any) Pool {
	t.Helper()
	return t.small(Crowd, fmt.Sprintf(format, args...))
}

// small is a pool of few connections.
func (t *test) small(most int, connString string) Pool {
	t.Helper()
	p, err := t.adapter.Open(connString, most)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// role is "primary" or "standby", or why there is no connection.
func (t *test) role(p Pool) string {
	t.Helper()
	v, err := p.Value(t.within(), "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END")
	if err != nil {
		return err.Error()
	}
	return v
}

// roleOf is the role that a connection string leads to.
func (t *test) roleOf(format string, args ...any) string {
	t.Helper()
	p := t.open(format, args...)
	defer p.Close()
	return t.role(p)
}

// fails returns the error with which a pool does not connect.
func (t *test) fails(p Pool) error {
	t.Helper()
	v, err := p.Value(t.within(), "SELECT 'a connection'")
	if err == nil {
		t.Fatalf("got %s, want an error", v)
	}
	return err
}

// SQL is a Pool by database/sql.
func SQL(db *sql.DB) Pool { return sqlPool{db} }

type sqlPool struct{ db *sql.DB }

func (p sqlPool) Value(ctx context.Context, query string) (v string, err error) {
	err = p.db.QueryRowContext(ctx, query).Scan(&v)
	return v, err
}

func (p sqlPool) Begin(ctx context.Context) (Tx, error) {
	tx, err := p.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // on a standby, too
	return sqlTx{tx}, err
}

func (p sqlPool) Warm(ctx context.Context, n int) error {
	p.db.SetMaxIdleConns(n)
	for range n {
		c, err := p.db.Conn(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
	}
	return nil
}

func (p sqlPool) Connections() int { return p.db.Stats().OpenConnections }
func (p sqlPool) Close()           { p.db.Close() }

type sqlTx struct{ *sql.Tx }

func (tx sqlTx) Value(ctx context.Context, query string) (v string, err error) {
	err = tx.QueryRowContext(ctx, query).Scan(&v)
	return v, err
}

func (tx sqlTx) Exec(ctx context.Context, statement string) error {
	_, err := tx.ExecContext(ctx, statement)
	return err
}

func (tx sqlTx) Commit(context.Context) error { return tx.Tx.Commit() }
