package test

// Waiting instead of failing, with real servers: the primary is killed, and whoever starts while there
// is none has the new one.

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// TestWaitingForPromotion: five seconds without a primary. Drivers as they are wait at a relay port,
// and a client of conmgr by SHOW TARGET: nobody gets an error, and the answer comes with conmgr's
// knowing of the promotion.
func TestWaitingForPromotion(t *testing.T) {
	const without = 5 * time.Second
	w := newWorld(t)
	client, db2 := w.net.Host("client"), w.net.Host("db2")
	second := w.primary.Standby("second", pgtest.Host(db2))
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "2s",
		Clusters: []*pgtest.Cluster{w.primary, second}, Extra: relayConf + "target_wait = 1min\n"})
	cm.WaitInstance(0, "role", "primary")
	cm.WaitInstance(1, "role", "standby")
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()

	mark := cm.Mark()
	w.primary.Kill9()
	cm.WaitLog(mark, `instance 0 .* is lost`, patience)
	begin := testnet.Monotonic()
	type end struct {
		who, got string
		at       time.Duration
		err      error
	}
	ends := make(chan end, 8)
	clients := w.stocks(client, relayDSN(relayReadWrite))
	for _, c := range clients {
		go func() {
			got, err := c.run(ctx, "SELECT current_setting('cluster_name')")
			ends <- end{c.name, got, testnet.Monotonic(), err}
		}()
	}
	go func() {
		rows, err := cm.Try("SHOW TARGET read-write")
		e := end{who: "SHOW TARGET", at: testnet.Monotonic(), err: err}
		if len(rows) == 1 {
			e.got = map[string]string{"1": "second"}[rows[0]["instance"]]
		}
		ends <- e
	}()
	eventually(t, "all wait, and have done so for long", func() (bool, string) {
		rows := cm.Show("SHOW WAITING")
		return len(rows) == len(clients)+1 && testnet.Monotonic()-begin > without, fmt.Sprint(rows)
	})
	select {
	case e := <-ends:
		t.Fatalf("%s does not wait: %q, %v", e.who, e.got, e.err)
	default:
	}
	second.Promote()
	known := cm.WaitLog(mark, `is changed from 'standby,read-only' to 'primary,read-write'`, patience).At
	for range len(clients) + 1 {
		e := <-ends
		if e.err != nil || e.got != "second" {
			t.Errorf("%s: %q, %v", e.who, e.got, e.err)
		}
		t.Logf("%s: %v after conmgr knew of the promotion", e.who, e.at-known)
	}
	cm.WaitLog(mark, fmt.Sprintf("%d applications that waited for an instance have one", len(clients)+1), patience)
	if rows := cm.Show("SHOW WAITING"); len(rows) != 0 {
		t.Errorf("still waiting: %v", rows)
	}
}
