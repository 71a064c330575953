package test

// Another database cluster among the instances: it is used for nothing, until it declares to take
// the place of the set's.

import (
	"fmt"
	"testing"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
)

func TestOtherCluster(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	other := pgtest.New(t, pgtest.Named("other"), pgtest.Host(w.net.Host("db2")), pgtest.Watchdog(), pgtest.Fresh())
	other.Exec("CREATE EXTENSION watchdog")
	id := w.primary.Value("SELECT system_identifier::text FROM pg_control_system()")
	otherID := other.Value("SELECT system_identifier::text FROM pg_control_system()")
	if id == otherID {
		t.Fatal("both clusters have the same system identifier")
	}

	// One against one: the order of conmgr.conf decides, and the other one is refused loudly,
	// timeline or not.
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "500ms", Timeout: "5s",
		Clusters: []*pgtest.Cluster{w.primary, other}})
	cm.WaitLog(0, `WARNING: .*instance 1 .*is not used: it belongs to another database cluster`, patience)
	if row := cm.Show("SHOW TARGET read-write")[0]; row["instance"] != "0" {
		t.Errorf("SHOW TARGET read-write: %v", row)
	}
	if _, err := cm.Try("SHOW TARGET any EXCEPT 0"); err == nil || !contains(err.Error(), "no target server address") {
		t.Errorf("SHOW TARGET any EXCEPT 0: %v", err)
	}
	// A third server outvotes the order.
	third := w.primary.Standby("third", pgtest.Host(w.net.Host("db3")))
	cm = cmtest.Start(t, w.net.Host("client2"), cmtest.Config{Interval: "500ms", Timeout: "5s",
		Clusters: []*pgtest.Cluster{other, w.primary, third}})
	instances := func(number int) map[string]string { return cm.Show("SHOW INSTANCES")[number] }
	eventually(t, "the primary is used", func() (bool, string) {
		return instances(1)["used_for"] == "any,read-write,primary", fmt.Sprint(instances(1))
	})
	row := instances(0)
	if row["used_for"] != "" || row["role"] != "primary" || row["system_identifier"] != otherID ||
		!contains(row["not_used"], "another database cluster: its system identifier is "+otherID+", that of the set is "+id) {
		t.Errorf("SHOW INSTANCES: %v", row)
	}
	w.primary.Stop(pgtest.Fast)
	cm.WaitInstance(1, "state", "stopped")
	if _, err := cm.Try("SHOW TARGET primary"); err == nil || !contains(err.Error(), "no target server address") {
		t.Errorf("SHOW TARGET primary: %v", err)
	}
	w.primary.Start()
	cm.WaitInstance(1, "state", "established")

	// The declaration takes the set over, and tells who is bound.
	writer, reader := cm.Bind("read-write"), cm.Bind("standby")
	mark := cm.Mark()
	other.Exec("SELECT watchdog_succeeds(" + id + ", 1)")
	for what, b := range map[string]*cmtest.Bound{"instance 1": writer, "instance 2": reader} {
		if err := b.Wait(patience); err == nil || !contains(err.Error(), what+" ",
			"superseded by instance 0, system identifier "+otherID) {
			t.Errorf("told: %v", err)
		}
	}
	cm.WaitLog(mark, `known of the set of instances: system identifier `+otherID+`, timeline 1 of instance 0`, patience)
	if row := cm.Show("SHOW TARGET read-write")[0]; row["instance"] != "0" {
		t.Errorf("SHOW TARGET read-write: %v", row)
	}
	if row := instances(1); !contains(row["not_used"], "which has succeeded it") {
		t.Errorf("SHOW INSTANCES: %v", row)
	}
	cm.Restart(9)
	cm.WaitInstance(1, "state", "established")
	if row := instances(1); row["used_for"] != "" || !contains(row["not_used"], "which has succeeded it") {
		t.Errorf("SHOW INSTANCES after a restart: %v", row)
	}
}
