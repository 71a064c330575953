package control

// The command line of cm_ctl: what its options mean. The table is in actions.go. Pure.

import (
	"strconv"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/cmdline"
)

const (
	defaultTimeout       = 60 * time.Second
	defaultStatusTimeout = 10 * time.Second // a question takes milliseconds; only a frozen conmgr lets us wait
	maxTimeoutSeconds    = 1 << 31
)

type options struct {
	action   string
	dir      string
	wait     bool
	waits    bool // was asked for
	complete bool
	timeout  time.Duration // 0: not given
	mode     shutdownMode
	asked    bool // for that mode
	log      string
	items    string // of status
	instance int    // of forget, drain and undrain; -1: everything
	yes      bool
	name     string // of genkey
	check    string // what --check asks for; empty: nothing
	json     bool
	conninfo string        // of doctor
	watch    time.Duration // between two looks of status; 0: one
	follow   bool          // of events
	help     bool
	version  bool
}

func usage(format string, args ...any) error { return cmdline.Usage(format, args...) }

func (o *options) setTimeout(v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1 || n > maxTimeoutSeconds {
		return usage("invalid timeout \"%s\": must be a number of seconds from 1 to %d", v, int64(maxTimeoutSeconds))
	}
	o.timeout = time.Duration(n) * time.Second
	return nil
}

func (o *options) setMode(v string) error {
	for _, m := range shutdownModes {
		if v == m.name || v == m.name[:1] {
			o.mode, o.asked = m, true
			return nil
		}
	}
	return usage("unrecognized shutdown mode \"%s\": must be \"smart\", \"fast\" or \"immediate\"", v)
}

// setItems is called when the action is known: -i names other things for each.
func (o *options) setItems() error {
	switch o.action {
	case "forget", "drain", "undrain":
		return o.setInstance()
	}
	switch o.items {
	case "all", "instance", "application":
		return nil
	}
	return usage("unrecognized item \"%s\": must be \"all\", \"instance\" or \"application\"", o.items)
}

// setInstance reads the number of an instance. To forget, there is "all" as well.
func (o *options) setInstance() error {
	o.instance = -1
	n, err := strconv.ParseUint(o.items, 10, 31)
	switch all := o.items == "all"; {
	case err == nil:
		o.instance = int(n)
	case o.action == "forget" && !all:
		return usage("invalid instance \"%s\": must be its number in %s, or \"all\"", o.items, cm.ConfigFile)
	case o.action == "forget":
	case all:
		return usage("no instance specified: use -i with its number in %s", cm.ConfigFile)
	default:
		return usage("invalid instance \"%s\": must be its number in %s", o.items, cm.ConfigFile)
	}
	return nil
}

// setWatch takes seconds; none is one.
func (o *options) setWatch(v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	switch {
	case v == "":
		n = 1
	case err != nil || n < 1 || n > maxTimeoutSeconds:
		return usage("invalid time \"%s\" between two looks: must be a number of seconds from 1 to %d", v, int64(maxTimeoutSeconds))
	}
	o.watch = time.Duration(n) * time.Second
	return nil
}

func (o *options) setCheck(v string) error {
	switch v {
	case "primary", "all", "any":
		o.check = v
		return nil
	}
	return usage("unrecognized check \"%s\": must be \"primary\", \"all\" or \"any\"", v)
}

// parseOptions stops at the first error; help and version win over errors that come after them.
func parseOptions(args []string) (options, error) {
	o := options{wait: true, mode: modeFast, items: "all"}
	operands, err := o.program().Parse(args)
	if err != nil || o.help || o.version {
		return o, err
	}
	if len(operands) == 0 {
		return o, usage("no operation specified")
	}
	o.action, operands = operands[0], operands[1:]
	if o.action == "genkey" {
		if len(operands) == 0 {
			return o, usage("no name specified: that of the client host that the key is for")
		}
		o.name, operands = operands[0], operands[1:]
	}
	if len(operands) > 0 {
		return o, usage("too many command-line arguments (first is \"%s\")", operands[0])
	}
	switch {
	case o.action == "genkey":
		return o, nil
	case o.watch > 0 && o.check != "":
		return o, usage("--check and --watch cannot be used together")
	case isAction(o.action):
		return o, o.setItems()
	}
	return o, usage("unrecognized operation mode \"%s\"", o.action)
}
