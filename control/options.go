package control

// The command line of cm_ctl, read as getopt_long reads pg_ctl's: options before or after the
// action, short ones joined, long ones abbreviated. Pure.

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
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
	help     bool
	version  bool
}

// usageError is answered with a pointer to the help.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

type option struct {
	short byte // 0: none
	long  string
	value bool
	set   func(o *options, value string) error
}

var optionTable = []option{
	{'D', "directory", true, func(o *options, v string) error { o.dir = v; return nil }},
	{'W', "no-wait", false, func(o *options, _ string) error { o.wait, o.waits = false, false; return nil }},
	{'w', "wait", false, func(o *options, _ string) error { o.wait, o.waits = true, true; return nil }},
	{'t', "timeout", true, setTimeout},
	{'m', "mode", true, setMode},
	{'l', "log", true, func(o *options, v string) error { o.log = v; return nil }},
	{'i', "items", true, func(o *options, v string) error { o.items = v; return nil }},
	{0, "complete", false, func(o *options, _ string) error { o.complete = true; return nil }},
	{0, "check", true, setCheck},
	{0, "instance", true, func(o *options, v string) error { o.items = v; return nil }},
	{0, "yes", false, func(o *options, _ string) error { o.yes = true; return nil }},
	{0, "json", false, func(o *options, _ string) error { o.json = true; return nil }},
	{'?', "help", false, func(o *options, _ string) error { o.help = true; return nil }},
	{'V', "version", false, func(o *options, _ string) error { o.version = true; return nil }},
}

func setTimeout(o *options, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1 || n > maxTimeoutSeconds {
		return usage("invalid timeout \"%s\": must be a number of seconds from 1 to %d", v, int64(maxTimeoutSeconds))
	}
	o.timeout = time.Duration(n) * time.Second
	return nil
}

func setMode(o *options, v string) error {
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

func setCheck(o *options, v string) error {
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
	var operands []string
	for len(args) > 0 && !o.help && !o.version {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case arg == "--":
			operands = append(operands, args...)
			args = nil
		case strings.HasPrefix(arg, "--"):
			args, err = o.long(arg[2:], args)
		case len(arg) > 1 && arg[0] == '-':
			args, err = o.short(arg[1:], args)
		default:
			operands = append(operands, arg)
		}
		if err != nil {
			return o, err
		}
	}
	if o.help || o.version {
		return o, nil
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
	switch o.action {
	case "genkey":
		return o, nil
	case "start", "stop", "restart", "status", "forget", "drain", "undrain":
		return o, o.setItems()
	}
	return o, usage("unrecognized operation mode \"%s\"", o.action)
}

// long takes in one long option, and returns the arguments left.
func (o *options) long(arg string, rest []string) ([]string, error) {
	name, value, attached := strings.Cut(arg, "=")
	var found []option
	for _, opt := range optionTable {
		if opt.long == name {
			found = []option{opt}
			break
		}
		if strings.HasPrefix(opt.long, name) {
			found = append(found, opt)
		}
	}
	switch {
	case len(found) == 0:
		return rest, usage("unrecognized option '--%s'", name)
	case len(found) > 1:
		return rest, usage("option '--%s' is ambiguous", name)
	}
	opt := found[0]
	switch {
	case attached && !opt.value:
		return rest, usage("option '--%s' doesn't allow an argument", opt.long)
	case opt.value && !attached:
		if len(rest) == 0 {
			return rest, usage("option '--%s' requires an argument", opt.long)
		}
		value, rest = rest[0], rest[1:]
	}
	return rest, opt.set(o, value)
}

// short takes in a word of short options, and returns the arguments left.
func (o *options) short(word string, rest []string) ([]string, error) {
	for i := 0; i < len(word); i++ {
		var opt *option
		for j := range optionTable {
			if optionTable[j].short == word[i] && word[i] != 0 {
				opt = &optionTable[j]
			}
		}
		if opt == nil {
			return rest, usage("invalid option -- '%c'", word[i])
		}
		if !opt.value {
			if err := opt.set(o, ""); err != nil {
				return rest, err
			}
			continue
		}
		value := word[i+1:]
		if value == "" {
			if len(rest) == 0 {
				return rest, usage("option requires an argument -- '%c'", word[i])
			}
			value, rest = rest[0], rest[1:]
		}
		return rest, opt.set(o, value)
	}
	return rest, nil
}
