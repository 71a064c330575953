package console

// The rows that answer a statement. Reads snapshots only; nothing blocks.

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/conmgr/event"
	"github.com/pgwatchdog/watchdog/heartbeat"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
)

// onOff writes a boolean as a PostgreSQL server does.
var onOff = map[bool]string{false: "off", true: "on"}

// null is the NULL value of a row.
const null = "\x00null"

var columns = map[verb][]string{
	showTarget:       cm.TargetColumns,
	showInstances:    cm.InstanceColumns,
	showApplications: cm.ApplicationColumns,
	showWaiting:      cm.WaitingColumns,
	showStats:        cm.StatsColumns,
	showConfig:       {"name", "setting", "default", "source", "context", "pending_restart"},
	reload:           {"name", "setting", "effect"},
	showVersion:      {"version"},
	showHelp:         {"statement", "description"},
	showEvents:       cm.EventColumns,
	forget:           {"known"},
	drain:            cm.DrainColumns,
	undrain:          cm.DrainColumns,
}

// HelpRows are what SHOW HELP answers.
var HelpRows = [][]string{
	{"SHOW TARGET <attribute> [EXCEPT <instance>, ...] [LAG '<limit>'] [WAIT '<time>'] [RESUME '<token>'] [NOTIFY]",
		"an instance of that attribute; binds this connection to it, and ends it when the instance is lost"},
	{"SHOW INSTANCES", "state of each instance"},
	{"SHOW APPLICATIONS", "application connections, and the instance that each is bound to; others see their own only"},
	{"SHOW WAITING", "application connections that wait for an instance, in order; others see their own only"},
	{"SHOW STATS", "what was counted since conmgr has started"},
	{"SHOW EVENTS [AFTER <number>]", "what has happened: the last events, or those since one"},
	{"SHOW CONFIG", "parameters of conmgr.conf"},
	{"SHOW VERSION", "version of the Connection Manager"},
	{"FORGET [INSTANCE <instance>]", "forget what was known of the set of instances, or what one of them has told of the timeline"},
	{"DRAIN INSTANCE <instance>", "send no application to an instance any more; those that are bound to it stay"},
	{"UNDRAIN INSTANCE <instance>", "end that"},
	{"RELOAD", "read conmgr.conf again; tells what changes, and when"},
	{"SET <name> TO <value>", "for drivers: only " + cm.WaitSetting + " and application_name do something"},
	{"RESET <name>", "end that; RESET ALL ends both"},
	{"SHOW HELP", "this list"},
	{"", "<attribute>: " + cm.JoinAttributes(", ")},
}

// answer executes a statement for a session. The error is a *Error.
func (s *session) answer(st *statement) ([][]string, error) {
	switch st.verb {
	case showTarget:
		return s.bindTarget(st)
	case showInstances:
		return instanceRows(s.service.board, s.service.registry, s.service.now()), nil
	case showApplications:
		return applicationRows(s.service.conf.Load(), s.visible(s.service.registry.Applications())), nil
	case showWaiting:
		waiting := s.service.registry.Waiting()
		if !s.seesAll() {
			waiting = slices.DeleteFunc(waiting, func(w bind.Waiting) bool { return w.Owner != s.Owner })
		}
		return waitingRows(waiting), nil
	case showStats:
		return s.service.stats.rows(), nil
	case showConfig:
		var rows [][]string
		for _, c := range s.service.conf.Load().Settings {
			rows = append(rows, []string{c.Name, c.Value, c.Default, c.Source, c.Context.String(), onOff[c.Pending]})
		}
		return rows, nil
	case showVersion:
		return [][]string{{"conmgr (watchdog) " + cm.Version}}, nil
	case showHelp:
		return HelpRows, nil
	case showEvents:
		if !s.seesAll() {
			return nil, &backend.Error{Code: cm.InsufficientPrivilege,
				Text: "permission denied: events tell of others' connections",
				Hint: "Root, the user who runs conmgr and stats_users of conmgr.conf see them."}
		}
		return eventRows(s.service.history.Since(st.after)), nil
	case forget:
		return s.forget(st.instance)
	case drain, undrain:
		return s.setDrain(st.instance, st.verb == drain)
	case reload:
		return s.reloadConfig()
	case set, reset:
		announced, err := s.change(st.set)
		s.announced = announced
		return nil, err
	}
	return nil, nil
}

func instanceRows(b *bind.Board, r *bind.Registry, now heartbeat.Mono) [][]string {
	var rows [][]string
	t := b.Table.Load()
	for i := range t.Entries {
		e := &t.Entries[i]
		addr, readOnly, timeline, last, detail := null, null, null, null, null
		bytes, ms := null, null
		if a := e.Address(); a.IsValid() {
			addr = a.String()
		}
		if e.Known {
			readOnly = "off"
			if e.Attributes.IsReadOnly() {
				readOnly = "on"
			}
			if e.Attributes.Timeline > 0 {
				timeline = strconv.FormatUint(uint64(e.Attributes.Timeline), 10)
			}
		}
		if e.Established() && e.Lag.Known {
			bytes = strconv.FormatUint(e.Lag.Bytes, 10)
			if e.Lag.Time >= 0 {
				ms = strconv.FormatInt(e.Lag.Time.Milliseconds(), 10)
			}
		}
		if h := b.Heard[i].Load(); h > 0 {
			last = strconv.FormatInt(max(0, now.Sub(heartbeat.Mono(h)).Milliseconds()), 10)
		}
		if e.Detail != "" {
			detail = e.Detail
		}
		rows = append(rows, []string{strconv.Itoa(e.Config.Number), e.Config.Name(), addr, strconv.Itoa(e.Config.Port),
			strconv.Itoa(e.Config.WatchdogPort),
			e.State.String(), e.Role(), readOnly, timeline, last, strconv.FormatUint(e.Generation, 10), detail,
			orNull(strings.Join(t.UsedFor(i), ",")), orNull(t.NotUsed(i)), lastRole(e), system(e),
			orNull(t.Draining(i)), strconv.Itoa(r.BoundTo(i)), bytes, ms})
	}
	return rows
}

func orNull(s string) string {
	if s == "" {
		return null
	}
	return s
}

// lastRole is what the instance was when it was last heard of.
func lastRole(e *bind.Entry) string {
	if !e.Known {
		return null
	}
	return e.Attributes.Role()
}

func system(e *bind.Entry) string {
	if !e.Known {
		return null
	}
	return strconv.FormatUint(e.SystemIdentifier, 10)
}

func applicationRows(c *conf.Config, apps []bind.Application) [][]string {
	slices.SortFunc(apps, func(a, b bind.Application) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Peer.Port(), b.Peer.Port()))
	})
	rows := make([][]string, 0, len(apps))
	for _, a := range apps {
		client, port := clientOf(a)
		rows = append(rows, []string{client, port, a.Name, a.Target, strconv.Itoa(c.Instances[a.Instance].Number),
			a.Since.Format(connectedAtFormat), a.Via})
	}
	return rows
}

func clientOf(a bind.Application) (client, port string) {
	if !a.Peer.IsValid() { // of a Unix socket, as in pg_stat_activity
		return null, "-1"
	}
	return a.Peer.Addr().Unmap().String(), strconv.Itoa(int(a.Peer.Port()))
}

func waitingRows(waiting []bind.Waiting) [][]string {
	rows := make([][]string, 0, len(waiting))
	for _, w := range waiting {
		client, port := clientOf(w.Application)
		rows = append(rows, []string{client, port, w.Name, w.Target, w.Since.Format(connectedAtFormat),
			w.Until.Format(connectedAtFormat), w.Via})
	}
	return rows
}

func eventRows(records []event.Record) [][]string {
	rows := make([][]string, 0, len(records))
	for _, r := range records {
		instance, port, repeated := null, null, null
		if r.Instance != nil {
			instance, port = strconv.Itoa(*r.Instance), strconv.Itoa(r.Port)
		}
		if r.Repeated > 0 {
			repeated = strconv.Itoa(r.Repeated)
		}
		rows = append(rows, []string{strconv.FormatUint(r.Number, 10), r.Time.Format(connectedAtFormat), r.Event, r.Level,
			instance, orNull(r.Host), port, orNull(r.Reason), r.Text, orNull(r.Detail), orNull(r.Hint), repeated})
	}
	return rows
}

// connectedAtFormat is ISO 8601 with milliseconds and zone.
const connectedAtFormat = "2006-01-02T15:04:05.000Z07:00"
