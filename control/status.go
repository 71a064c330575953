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
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

// The documented shape of --json: docs/status.schema.json. Unknown values are null.
type statusReport struct {
	Pid          *int                `json:"pid"`
	State        string              `json:"state"` // running, starting, stopping, not running
	Port         *int                `json:"port"`
	Instances    []cm.InstanceStatus `json:"instances"`
	Applications []applicationReport `json:"applications"`
	// why conmgr could not be asked: the lists say nothing then
	Error     string          `json:"error,omitempty"`
	Waiting   []waitingReport `json:"waiting"`
	Version   *string         `json:"version"`
	Directory string          `json:"directory"`
	Listening *string         `json:"listen_addresses"`
	Started   *time.Time      `json:"started"`
	Check     *checkReport    `json:"check,omitempty"`
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

type waitingReport struct {
	ClientAddr      *string `json:"client_addr"`
	ClientPort      *int64  `json:"client_port"`
	ApplicationName *string `json:"application_name"`
	Target          *string `json:"target"`
	WaitingSince    *string `json:"waiting_since"`
	WaitsUntil      *string `json:"waits_until"`
	Via             *string `json:"via"`
}

type checkReport struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// sight is what was found at one look.
type sight struct {
	statusReport
	info    Info
	unknown bool // a process runs, and it is not known which
	asked   answers
	code    int // exit status
}

func (r *run) status(ctx context.Context) int {
	if r.watch > 0 {
		return r.watchStatus(ctx)
	}
	return r.statusOnce(ctx)
}

// statusOnce looks, and shows what it has found.
func (r *run) statusOnce(ctx context.Context) int {
	s := r.look(ctx)
	if ctx.Err() != nil {
		return exitInterrupted
	}
	if r.check != "" && s.code != exitNoDirectory {
		r.judge(&s)
	}
	switch {
	case s.code == exitNoDirectory:
	case r.json:
		r.sayJSON(s.statusReport)
	default:
		r.show(&s)
	}
	if s.Check != nil && s.code == exitCheckFailed && s.Error == "" {
		r.fail("check \"%s\" has failed: %s", s.Check.What, checkTexts[r.check])
	}
	return s.code
}

// look finds out who runs, and asks him.
func (r *run) look(ctx context.Context) sight {
	s := sight{statusReport: statusReport{State: "running", Directory: r.dir, Instances: []cm.InstanceStatus{},
		Applications: []applicationReport{}, Waiting: []waitingReport{}}}
	info, running, err := Running(r.dir)
	var unknown *UnidentifiedError
	switch {
	case errors.As(err, &unknown):
		r.fail("%v", err)
		s.unknown, s.Error = true, unknown.Error()
		return s
	case err != nil:
		r.fail("%v", err)
		s.code = exitNoDirectory
		return s
	case !running:
		if info.Pid != 0 {
			r.fail("PID file \"%s\" is stale: conmgr process (PID %d) is gone", r.pidPath(), info.Pid)
		}
		s.State, s.code = "not running", exitNotRunning
		return s
	}
	s.info = info
	s.Pid, s.Port, s.Listening, s.Started = &info.Pid, &info.Port, &info.ListenAddresses, &info.Started
	if info.Status == StatusStarting || info.Status == StatusStopping {
		s.State = string(info.Status)
	}
	if s.asked, err = r.askAll(ctx, info); err != nil {
		s.Error = fmt.Sprintf("conmgr process (PID %d) does not answer on port %d: %s", info.Pid, info.Port,
			strings.ReplaceAll(err.Error(), "\n", "; "))
		if ctx.Err() == nil {
			r.fail("%s", s.Error)
		}
		return s
	}
	s.Version = &s.asked.version
	if r.items != "application" {
		s.Instances = append(s.Instances, instanceReports(s.asked.instances)...)
	}
	s.Applications = append(s.Applications, applicationReports(s.asked.applications)...)
	s.Waiting = append(s.Waiting, waitingReports(s.asked.waiting)...)
	return s
}

// show is for people.
func (r *run) show(s *sight) {
	if s.Check != nil {
		r.say("%s\n", s.Check.Text)
	}
	switch {
	case s.code == exitNotRunning:
		r.say("cm_ctl: no conmgr process running\n")
		return
	case s.unknown:
		r.say("cm_ctl: conmgr process is running\n")
		return
	}
	r.say("cm_ctl: conmgr process is %s (PID: %d)\n", s.State, s.info.Pid)
	var b strings.Builder
	for _, line := range [][2]string{{"  directory: ", s.info.Dir},
		{"  started:   ", s.info.Started.Format("2006-01-02 15:04:05 MST")},
		{"  listening: ", fmt.Sprintf("%s, port %d", printable(s.info.ListenAddresses), s.info.Port)}} {
		writeFolded(&b, line[0], "             ", line[1], r.outputWidth())
	}
	r.say("%s", b.String())
	if s.Error != "" {
		return
	}
	r.sayList("instance", "Instances", "no instances configured", s.asked.instances, instanceColumns, instanceNotes)
	r.sayList("application", "Applications", "no applications connected", s.asked.applications, applicationColumns, nil)
	if len(s.Waiting) > 0 {
		r.sayList("application", "Waiting for an instance", "", s.asked.waiting, waitingColumns, nil)
	}
}

// answers are those of the statements that status asks.
type answers struct {
	version                          string
	instances, applications, waiting rows
}

func (r *run) askAll(ctx context.Context, info Info) (a answers, err error) {
	into := map[string]*rows{}
	var statements []string
	want := func(statement string, to *rows, wanted bool) {
		if wanted {
			statements, into[statement] = append(statements, statement), to
		}
	}
	want("SHOW INSTANCES", &a.instances, r.items != "application" || r.check != "")
	want("SHOW APPLICATIONS", &a.applications, r.items != "instance")
	want(showWaiting, &a.waiting, r.items != "instance")
	said, told, err := askConsole(ctx, info, r.limit(defaultStatusTimeout), statements...)
	if err != nil {
		return answers{}, err
	}
	for i, s := range statements {
		*into[s] = told[i]
	}
	a.version = said[cm.VersionParameter]
	return a, nil
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
	r.say("\n%s:\n%s", title, formatList(answer, columns, notes, r.outputWidth(), r.palette()))
}

func instanceReports(answer rows) (reports []cm.InstanceStatus) {
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
		reports = append(reports, cm.InstanceStatus{Instance: f.number(cm.ColInstance), Host: f.text(cm.ColHost),
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

func waitingReports(answer rows) (reports []waitingReport) {
	for i := range answer.values {
		f := answer.row(i)
		reports = append(reports, waitingReport{ClientAddr: f.text(cm.ColClientAddr), ClientPort: f.number(cm.ColClientPort),
			ApplicationName: f.text(cm.ColApplicationName), Target: f.text(cm.ColTarget),
			WaitingSince: f.text(cm.ColWaitingSince), WaitsUntil: f.text(cm.ColWaitsUntil), Via: f.text(cm.ColVia)})
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
