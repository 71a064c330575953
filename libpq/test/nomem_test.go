package libpqtest

// Memory that runs out, in the front and in the real libpq below it.

import (
	"strings"
	"testing"
)

func TestNoMemory(t *testing.T) {
	cm := conmgr(t)
	resuming := hostileWith(t, resumable("10000"))
	env := append(byPath(), "GLIBC_TUNABLES=glibc.malloc.tcache_count=0")
	for _, way := range []struct{ library, conninfo string }{
		{"connmgr/libpq", dsn(primary.port, "")},
		{"connmgr/libpq", dsn(cm.Port(), "sslmode=require")}, // asked in the clear first
		{"/libpq.so", dsn(cm.Port(), "")},
		{"connmgr/libpq", dsn(resuming.Port(), "options='-c work_mem=5MB -c conmgr.target_wait=1'")},
	} {
		out := output(t, env, "nomem", way.library, way.conninfo)
		if !strings.HasPrefix(out, "ok ") || len(out) < len("ok 10\n") {
			t.Errorf("%s, %s: %s", way.library, way.conninfo, out)
		}
		t.Logf("allocations of %s: %s", way.library, out)
	}
}
