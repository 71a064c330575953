package libpqtest

// A connection whose instance was lost while it was idle behaves in every call as one does that the
// server's kernel has reset.

import (
	"io"
	"net"
	"strings"
	"testing"
)

// resetting passes connections on to the primary; reset ends them on the application's side with a
// RST.
func resetting(t *testing.T) (port string, reset func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	near := make(chan *net.TCPConn, 1)
	go func() {
		defer l.Close()
		n, err := l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", "127.0.0.1:"+primary.port)
		if err != nil {
			n.Close()
			return
		}
		near <- n.(*net.TCPConn)
		go io.Copy(far, n)
		io.Copy(n, far)
		far.Close()
	}()
	t.Cleanup(func() { l.Close() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, func() {
		n := <-near
		n.SetLinger(0)
		n.Close()
	}
}

// The calls of a program, by how its connection stood when it was lost.
var afterReset = map[string][]string{
	"idle": {
		"PQexec PQexec PQgetResult", "PQexecParams PQexec", "PQprepare PQexec", "PQexecPrepared PQexec",
		"PQdescribePrepared PQexec",
		"PQdescribePortal PQexec", "PQsendQuery PQgetResult PQgetResult PQsendQuery PQexec",
		"PQsendQueryParams PQgetResult PQgetResult PQsendQuery",
		"PQsendPrepare PQgetResult PQgetResult PQsendQuery", "PQsendQueryPrepared PQgetResult PQgetResult PQsendQuery",
		"PQsendDescribePrepared PQgetResult PQgetResult", "PQsendDescribePortal PQgetResult PQgetResult",
		"PQsendQuery PQsetSingleRowMode PQconsumeInput PQisBusy PQgetResult PQgetResult PQexec",
		"PQsendQuery PQflush PQisBusy PQconsumeInput PQgetResult",
		"PQconsumeInput PQnotifies PQexec PQsendQuery PQgetResult", "PQisBusy PQflush PQnotifies PQexec",
		"PQgetResult PQflush PQsendQuery PQsendQuery",
		"PQsetClientEncoding PQexec", "PQencryptPasswordConn PQexec", "PQfn PQexec",
		"PQsetnonblocking PQsendQuery PQflush PQgetResult PQgetResult PQflush",
		"PQputCopyData PQputCopyEnd PQgetCopyData PQexec", "lo_creat lo_creat PQexec",
		"PQenterPipelineMode PQsendQueryParams PQpipelineSync PQgetResult PQgetResult PQgetResult PQexitPipelineMode",
	},
	"nonblocking": {
		"PQsendQuery PQflush PQconsumeInput PQisBusy PQgetResult PQgetResult PQsendQuery",
		"PQflush PQsendQuery PQgetResult PQgetResult",
		"PQexec PQexec", "PQsetClientEncoding PQexec",
	},
	"transaction": {"PQexec PQexec", "PQsendQuery PQgetResult PQgetResult", "PQconsumeInput PQexec"},
	"large":       {"lo_write lo_write lo_read PQexec", "lo_read PQexec", "lo_open lo_creat PQexec"},
	"copyin": {
		"PQputCopyData PQputCopyEnd PQgetResult PQgetResult PQexec", "PQputCopyEnd PQgetResult PQgetResult PQexec",
		"PQputCopyDataBig PQputCopyEnd PQgetResult PQgetResult",
		"PQputCopyDataBig PQputCopyDataBig PQputCopyDataBig PQputCopyEnd PQgetResult PQgetResult",
		"PQflush PQputCopyEnd PQgetResult",
		"PQputline PQendcopy PQexec", "PQputnbytes PQputline PQendcopy PQexec",
		"PQconsumeInput PQputCopyData PQputCopyEnd PQgetResult", "PQexec PQexec",
		"PQgetResult PQgetResult PQgetResult",
	},
	"copyinnonblocking": {"PQputCopyData PQflush PQputCopyDataBig PQflush PQputCopyEnd PQflush PQgetResult PQgetResult"},
	"copyout": {
		"PQgetCopyData PQgetCopyData PQgetResult PQgetResult PQgetResult PQexec",
		"PQgetCopyDataAsync PQgetCopyDataAsync PQgetResult PQgetResult",
		"PQconsumeInput PQgetCopyData PQgetCopyData PQgetResult PQgetResult",
	},
	"pipeline": {
		"PQsendQueryParams PQpipelineSync PQgetResult PQgetResult PQgetResult PQgetResult PQexitPipelineMode PQsendQueryParams",
		"PQsendQueryParams PQsendQueryParams PQsendFlushRequest PQflush PQgetResult PQgetResult PQgetResult PQgetResult",
		"PQpipelineSync PQgetResult PQgetResult PQexitPipelineMode",
		"PQsendFlushRequest PQflush PQconsumeInput PQgetResult PQexitPipelineMode PQexec",
		"PQsendPrepare PQsendQueryPrepared PQsendDescribePrepared PQpipelineSync PQconsumeInput PQisBusy PQgetResult PQgetResult", "PQexitPipelineMode PQexec PQexec",
	},
}

// lacksPipelines tells whether the calls are of pipelines, which libpq has since 14.
func lacksPipelines(t *testing.T, calls string) bool {
	t.Helper()
	return libpqVersion(t) < 14 && (strings.Contains(strings.ToLower(calls), "pipeline") || strings.Contains(calls, "FlushRequest"))
}

func TestLossWhileIdleIsAReset(t *testing.T) {
	sql(t, primary, "create table if not exists resets(a int)")
	for setup, sequences := range afterReset {
		for _, calls := range sequences {
			if lacksPipelines(t, setup+" "+calls) {
				continue
			}
			t.Run(setup+"/"+strings.ReplaceAll(calls, " ", "."), func(t *testing.T) {
				port, reset := resetting(t)
				direct := converse(t, plain(), "resets",
					append([]string{setup, dsn(port, "")}, strings.Fields(calls)...)...)
				direct.until("ready")
				reset()
				want := direct.rest()

				cm := conmgr(t)
				fronted := converse(t, byPath(), "resets",
					append([]string{setup, dsn(cm.Port(), "target_session_attrs=primary")},
						strings.Fields(calls)...)...)
				fronted.until("ready")
				cm.Lose(0)
				got := fronted.rest()
				if clean := strings.ReplaceAll(got, " LOST", ""); clean != want {
					t.Errorf("\n%swith the installed libpq, after a reset:\n%s", got, want)
				}
				if strings.Contains(want, "server closed") && !strings.Contains(got, " LOST") {
					t.Errorf("nothing tells of the loss:\n%s", got)
				}
			})
		}
	}
	if got := sql(t, primary, "select count(*) from resets"); got != "0" {
		t.Errorf("%s rows reached the server after the loss", got)
	}
}
