package control

// The one table of cm_ctl's command line: it is read by it, and the help and the completion of
// shells are made of it. Pure.

import (
	"slices"

	"github.com/pgwatchdog/watchdog/internal/cmdline"
)

var actions = []cmdline.Action{
	{Name: "start", Doc: "start a conmgr process"},
	{Name: "stop", Doc: "stop it"},
	{Name: "restart", Doc: "restart it, at no loss"},
	{Name: "reload", Doc: "have it read conmgr.conf again, at no loss"},
	{Name: "status", Doc: "show instances and applications"},
	{Name: "doctor", Doc: "say what is wrong, and what to do"},
	{Name: "forget", Doc: "forget what is known of the instances"},
	{Name: "drain", Doc: "send no application to an instance any more"},
	{Name: "undrain", Doc: "end that"},
	{Name: "events", Doc: "tell what has happened"},
	{Name: "genkey", Operand: "NAME", Doc: "make a key for heartbeats"},
}

func isAction(name string) bool {
	return slices.ContainsFunc(actions, func(a cmdline.Action) bool { return a.Name == name })
}

// The titles of the sections of options.
const (
	forAll     = "Common options"
	forStart   = "Options for start or restart"
	forStop    = "Options for stop or restart"
	forStatus  = "Options for status"
	forDoctor  = "Options for doctor"
	forForget  = "Options for forget"
	forDrains  = "Options for drain or undrain"
	forEvents  = "Options for events"
	withoutDir = "If the -D option is omitted, the environment variable CMDATA is used.\n"
)

// Program is the table, as the help, the manual's test and the completion of shells need it.
func Program() *cmdline.Program { return new(options).program() }

func (o *options) program() *cmdline.Program {
	flag := func(set func()) func(string) error { return func(string) error { set(); return nil } }
	text := func(to *string) func(string) error { return func(v string) error { *to = v; return nil } }
	last := func(to *bool) func(string) error { return func(string) error { *to = true; return cmdline.ErrStop } }
	running := []string{"start", "stop", "restart", "reload", "status", "doctor", "forget", "drain", "undrain", "events"}
	starting := []string{"start", "restart"}
	stopping := []string{"stop", "restart"}
	draining := []string{"drain", "undrain"}
	return &cmdline.Program{
		Name: "cm_ctl", Summary: "cm_ctl is a utility to start, stop, or look at a conmgr process (Connection Manager).",
		Actions: actions, Epilogue: epilogue,
		Sections: []cmdline.Section{{Title: forAll, After: withoutDir}, {Title: forStart}, {Title: forStop}, {Title: forStatus},
			{Title: forDoctor}, {Title: forForget}, {Title: forDrains}, {Title: forEvents}},
		Options: []cmdline.Option{
			{Short: 'D', Long: "directory", Value: "DIRECTORY", Kind: cmdline.Directory, Of: running, Section: forAll, Set: text(&o.dir),
				Help: "directory of the conmgr process, with conmgr.conf"},
			{Short: 't', Long: "timeout", Value: "SECS", Of: running, Section: forAll, Set: o.setTimeout,
				Help: "seconds to wait (default 60; for status, forget, events, undrain, and drain without --wait, 10; for doctor 3, for each question)"},
			{Short: 'w', Long: "wait", Of: []string{"drain"}, Section: forAll, Set: flag(func() { o.wait, o.waits = true, true }),
				Help: "wait until operation completes (default, but for drain)"},
			{Short: 'W', Long: "no-wait", Of: []string{"start", "stop", "restart", "reload"}, Section: forAll,
				Set: flag(func() { o.wait, o.waits = false, false }), Help: "do not wait until operation completes"},
			{Short: 'V', Long: "version", Section: forAll, Set: last(&o.version), Help: "output version information, then exit"},
			{Short: '?', Long: "help", Section: forAll, Set: last(&o.help), Help: "show this help, then exit"},
			{Short: 'l', Long: "log", Value: "FILENAME", Kind: cmdline.File, Of: starting, Section: forStart, Set: text(&o.log),
				Help: "write (or append) messages of conmgr to FILENAME"},
			{Long: "complete", Of: starting, Section: forStart, Set: flag(func() { o.complete = true }),
				Help: "wait until conmgr has established heartbeats to all instances, not only to the primary"},
			{Short: 'm', Long: "mode", Value: "MODE", Words: modeNames(), Of: stopping, Section: forStop, Set: o.setMode,
				Help: `MODE can be "smart", "fast", or "immediate"; without it, restart ends no session`},
			{Short: 'i', Long: "items", Value: "ITEMS", Words: []string{"all", "instance", "application"}, Of: []string{"status"},
				Section: forStatus, Set: text(&o.items), Help: `ITEMS can be "all" (default), "instance", or "application"`},
			{Long: "json", Of: []string{"status"}, Section: forStatus, Set: flag(func() { o.json = true }),
				Help: "output for programs, as docs/status.schema.json describes it"},
			{Long: "check", Value: "WHAT", Words: []string{"primary", "all", "any"}, Of: []string{"status"}, Section: forStatus,
				Set: o.setCheck, Help: `fail unless there are heartbeats with the "primary", with "all" instances, or with "any" instance; the first line is for monitoring systems`},
			{Long: "watch", Value: "SECS", Optional: true, Whole: true, Of: []string{"status"}, Section: forStatus, Set: o.setWatch,
				Help: "look again each second, or after so many, until interrupted"},
			{Short: 'd', Long: "dbname", Value: "CONNINFO", Whole: true, Of: []string{"doctor"}, Section: forDoctor, Set: text(&o.conninfo),
				Help: "connect to each instance by SQL, too, with this connection string; without it, if PGUSER, PGPASSWORD, PGPASSFILE " +
					"or PGSERVICE is set"},
			{Long: "json", Of: []string{"doctor"}, Section: forDoctor, Set: flag(func() { o.json = true }),
				Help: "output for programs, as docs/doctor.schema.json describes it"},
			{Short: 'i', Long: "instance", Value: "INSTANCE", Of: []string{"forget"}, Section: forForget, Set: text(&o.items),
				Help: "forget only what the instance of this number has told of the timeline"},
			{Long: "yes", Of: []string{"forget"}, Section: forForget, Set: flag(func() { o.yes = true }), Help: "do not ask"},
			{Short: 'i', Long: "instance", Value: "INSTANCE", Required: true, Of: draining, Section: forDrains, Set: text(&o.items),
				Help: "number of the instance to which applications of this host are sent no more, or again; with --wait, drain " +
					"returns when none is bound to it any more"},
			{Short: 'f', Long: "follow", Of: []string{"events"}, Section: forEvents, Set: flag(func() { o.follow = true }),
				Help: "go on with those that happen from now on"},
			{Long: "json", Of: []string{"events"}, Section: forEvents, Set: flag(func() { o.json = true }),
				Help: "output for programs: one line an event"},
		},
	}
}

func modeNames() (names []string) {
	for _, m := range shutdownModes {
		names = append(names, m.name)
	}
	return names
}

// epilogue is the end of the help.
const epilogue = `
genkey prints a new key for the client host NAME: a line for the key files of
its conmgr process (heartbeat_key_file) and of the servers (watchdog.key_file).

Shutdown modes are:
  smart       quit after all applications have disconnected
  fast        disconnect applications, then quit (default)
  immediate   quit at once

When a conmgr process ends (stop, restart with -m), the servers end all SQL
sessions of this host, also those that do not use the Connection Manager, unless
watchdog.terminate_on_close is off there. Replication connections stay.

Exit status of status: 0 running, 2 running but --check has failed,
3 not running, 4 no usable directory.
Exit status of doctor: 0 all is well, 1 warnings, 2 errors,
4 no usable directory.
`
