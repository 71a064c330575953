package control

// cm_ctl status. Blocks until conmgr has answered, for at most the timeout: a frozen conmgr is
// running, too.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgwatchdog/watchdog/cm"
)

// The documented shape of --json. Unknown values are null.
type statusReport struct {
	Pid          *int                `json:"pid"`
	State        string              `json:"state"` // running, starting, stopping, not running
	Port         *int                `json:"port"`
	Instances    []instanceReport    `json:"instances"`
	Applications []applicationReport `json:"applications"`
	// why conmgr could not be asked: the lists say nothing then
	Error string `json:"error,omitempty"`
}

type instanceReport struct {
	Instance        *int64  `json:"instance"`
	Host            *string `json:"host"`
	Hostaddr        *string `json:"hostaddr"`
	Port            *int64  `json:"port"`
	WatchdogPort    *int64  `json:"watchdog_port"`
	State           *string `json:"state"`
	Role            string  `json:"role"`
	ReadOnly        *bool   `json:"read_only"`
	Timeline        *int64  `json:"timeline"`
	LastHeartbeatMs *int64  `json:"last_heartbeat_ms"`
	Generation      *int64  `json:"generation"`
	Detail          *string `json:"detail"`
	UsedFor         *string `json:"used_for"`
	NotUsed         *string `json:"not_used"`
	LastRole        *string `json:"last_role"`
	SystemID        *string `json:"system_identifier"` // 64 bits: more than a number of JSON holds everywhere
	Draining        *string `json:"draining"`
	Bound           *int64  `json:"bound"`
	LagBytes        *int64  `json:"lag_bytes"`
	LagMs           *int64  `json:"lag_ms"`
}

type applicationReport struct {
	ClientAddr      *string `json:"client_addr"`
	ClientPort      *int64  `json:"client_port"`
	ApplicationName *string `json:"application_name"`
	Target          *string `json:"target"`
	Instance        *int64  `json:"instance"`
	ConnectedAt     *string `json:"connected_at"`
	Via             *string `json:"via"`
}

func (r *run) status(ctx context.Context) int {
	info, running, err := Running(r.dir)
	var unknown *UnidentifiedError
	switch {
	case errors.As(err, &unknown):
		r.fail("%v", err)
	case err != nil:
		r.fail("%v", err)
		return exitNoDirectory
	case !running:
		if info.Pid != 0 {
			r.fail("PID file \"%s\" is stale: conmgr process (PID %d) is gone", r.pidPath(), info.Pid)
		}
		if r.json {
			r.sayJSON(statusReport{State: "not running", Instances: []instanceReport{},
				Applications: []applicationReport{}})
		} else {
			r.say("cm_ctl: no conmgr process running\n")
		}
		return exitNotRunning
	}
	report := statusReport{State: "running", Instances: []instanceReport{}, Applications: []applicationReport{}}
	var instances, applications rows
	if unknown != nil {
		report.Error = unknown.Error()
	} else {
		report.Pid, report.Port = &info.Pid, &info.Port
		if info.Status == StatusStarting || info.Status == StatusStopping {
			report.State = string(info.Status)
		}
		if instances, applications, err = r.askBoth(ctx, info); err != nil {
			report.Error = fmt.Sprintf("conmgr process (PID %d) does not answer on port %d: %s", info.Pid, info.Port,
				strings.ReplaceAll(err.Error(), "\n", "; "))
			r.fail("%s", report.Error)
		}
	}
	if ctx.Err() != nil {
		return exitInterrupted
	}
	if r.json {
		if r.items != "application" {
			report.Instances = append(report.Instances, instanceReports(instances)...)
		}
		report.Applications = append(report.Applications, applicationReports(applications)...)
		r.sayJSON(report)
		return r.checked(instances, report.Error)
	}
	if unknown != nil {
		r.say("cm_ctl: conmgr process is running\n")
		return r.checked(instances, report.Error)
	}
	r.say("cm_ctl: conmgr process is %s (PID: %d)\n", report.State, info.Pid)
	r.say("  directory: %s\n  started:   %s\n  listening: %s, port %d\n", info.Dir,
		info.Started.Format("2006-01-02 15:04:05 MST"),
		printable(info.ListenAddresses), info.Port)
	if err == nil {
		r.sayList("instance", "Instances", "no instances configured", instances, instanceColumns, instanceNotes)
		r.sayList("application", "Applications", "no applications connected", applications, applicationColumns, nil)
	}
	return r.checked(instances, report.Error)
}

func (r *run) askBoth(ctx context.Context, info Info) (instances, applications rows, err error) {
	var statements []string
	if r.items != "application" || r.check != "" {
		statements = append(statements, "SHOW INSTANCES")
	}
	if r.items != "instance" {
		statements = append(statements, "SHOW APPLICATIONS")
	}
	answers, err := ask(ctx, info, r.limit(defaultStatusTimeout), statements...)
	if err != nil {
		return rows{}, rows{}, err
	}
	if r.items != "application" || r.check != "" {
		instances, answers = answers[0], answers[1:]
	}
	if r.items != "instance" {
		applications = answers[0]
	}
	return instances, applications, nil
}

func (r *run) sayJSON(report statusReport) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(report)
	r.write(b.Bytes())
}

// sayList prints one of the two lists.
func (r *run) sayList(item, title, empty string, answer rows, columns []column, notes func(fields) []string) {
	if r.items != "all" && r.items != item {
		return
	}
	if len(answer.values) == 0 {
		r.say("\n%s: %s\n", title, empty)
		return
	}
	r.say("\n%s:\n%s", title, formatList(answer, columns, notes, r.outputWidth()))
}

func instanceReports(answer rows) (reports []instanceReport) {
	for i := range answer.values {
		f := answer.row(i)
		role := "unknown"
		if s := f.text(cm.ColRole); s != nil {
			role = *s
		}
		timeline := f.number(cm.ColTimeline)
		if timeline != nil && *timeline == 0 {
			timeline = nil // not known yet
		}
		reports = append(reports, instanceReport{Instance: f.number(cm.ColInstance), Host: f.text(cm.ColHost),
			Hostaddr: f.text(cm.ColHostAddr), Port: f.number(cm.ColPort),
			WatchdogPort: f.number(cm.ColWatchdogPort), State: f.text(cm.ColState), Role: role,
			ReadOnly: f.boolean(cm.ColReadOnly),
			Timeline: timeline, LastHeartbeatMs: f.number(cm.ColLastHeartbeat), Generation: f.number(cm.ColGeneration),
			Detail: f.text(cm.ColDetail), UsedFor: f.text(cm.ColUsedFor), NotUsed: f.text(cm.ColNotUsed),
			LastRole: f.text(cm.ColLastRole), SystemID: f.text(cm.ColSystemIdentifier),
			Draining: f.text(cm.ColDraining), Bound: f.number(cm.ColBound),
			LagBytes: f.number(cm.ColLagBytes), LagMs: f.number(cm.ColLagMs)})
	}
	return reports
}

func applicationReports(answer rows) (reports []applicationReport) {
	for i := range answer.values {
		f := answer.row(i)
		reports = append(reports, applicationReport{ClientAddr: f.text(cm.ColClientAddr),
			ClientPort:      f.number(cm.ColClientPort),
			ApplicationName: f.text(cm.ColApplicationName), Target: f.text(cm.ColTarget), Instance: f.number(cm.ColInstance),
			ConnectedAt: f.text(cm.ColConnectedAt), Via: f.text(cm.ColVia)})
	}
	return reports
}

// fields is one row by the names of its columns: later versions of conmgr may add some.
type fields map[string]*string

func (a rows) row(i int) fields {
	f := fields{}
	for j, name := range a.columns {
		f[name] = a.values[i][j]
	}
	return f
}

// text is nil for NULL and for the empty string, which is what unknown looks like in text.
func (f fields) text(name string) *string {
	if v := f[name]; v != nil && *v != "" {
		return v
	}
	return nil
}

func (f fields) number(name string) *int64 {
	if v := f[name]; v != nil {
		if n, err := strconv.ParseInt(*v, 10, 64); err == nil {
			return &n
		}
	}
	return nil
}

func (f fields) boolean(name string) *bool {
	v := f[name]
	if v == nil {
		return nil
	}
	var b bool
	switch strings.ToLower(*v) {
	case "on", "t", "true", "yes", "1":
		b = true
	case "off", "f", "false", "no", "0":
	default:
		return nil
	}
	return &b
}
