// Package cmdline is the command line of our programs: one table of options, by which it is read,
// and from which the help and the completion of shells are made. Pure.
//
//	cmdline.go     the table, and how it is read
//	help.go        the text of --help
//	bash.go zsh.go completion
package cmdline

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Program is what its table says of a program.
type Program struct {
	Name     string
	Summary  string // what it is, the first line of the help
	Actions  []Action
	Sections []Section
	Options  []Option
	Epilogue string // the end of the help
}

// Action is an operation: the first word that is no option.
type Action struct {
	Name    string
	Operand string   // what follows it; "": nothing
	Words   []string // what the operand can be, for completion
	Doc     string   // for completion
}

// Section is a part of the list of options in the help.
type Section struct {
	Title string
	After string // follows its options
}

// Kind is what a value names, for completion.
type Kind uint8

// The kinds of values.
const (
	Other Kind = iota
	File
	Directory
)

// Option is a row of the table. An option that means different things to different actions has a
// row for each, of which the first one reads it.
type Option struct {
	Short    byte // 0: none
	Long     string
	Value    string // what the help calls its value; "": it has none
	Optional bool   // the value may be missing
	Whole    bool   // is not abbreviated: abbreviations of older options keep their meaning
	Required bool   // the actions do not go without
	Kind     Kind
	Words    []string // the values that there are, for completion
	Of       []string // the actions that know it; nil: all, and none has it in its usage
	Section  string
	Help     string
	Set      func(value string) error
}

// UsageError is answered with a pointer to the help.
type UsageError struct{ text string }

func (e *UsageError) Error() string { return e.text }

// Usage makes one.
func Usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// ErrStop of a Set: nothing that follows matters, be it wrong.
var ErrStop = errors.New("nothing else is read")

// Parse reads arguments as getopt_long does: options before or after operands, short ones joined,
// long ones abbreviated. It stops at the first error, or at ErrStop, which is none.
func (p *Program) Parse(args []string) (operands []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(operands, args...), nil
		case strings.HasPrefix(arg, "--"):
			args, err = p.long(arg[2:], args)
		case len(arg) > 1 && arg[0] == '-':
			args, err = p.short(arg[1:], args)
		default:
			operands = append(operands, arg)
		}
		if err == ErrStop {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return operands, nil
}

// long takes in one long option, and returns the arguments left.
func (p *Program) long(arg string, rest []string) ([]string, error) {
	name, value, attached := strings.Cut(arg, "=")
	var all []*Option
	for i := range p.Options {
		opt := &p.Options[i]
		if opt.Long == name {
			all = []*Option{opt}
			break
		}
		if strings.HasPrefix(opt.Long, name) && !opt.Whole && !slices.ContainsFunc(all, func(o *Option) bool { return o.Long == opt.Long }) {
			all = append(all, opt)
		}
	}
	switch {
	case len(all) == 0:
		return rest, Usage("unrecognized option '--%s'", name)
	case len(all) > 1:
		return rest, Usage("option '--%s' is ambiguous", name)
	}
	opt := all[0]
	switch {
	case attached && opt.Value == "":
		return rest, Usage("option '--%s' doesn't allow an argument", opt.Long)
	case opt.Value != "" && !attached && !opt.Optional:
		if len(rest) == 0 {
			return rest, Usage("option '--%s' requires an argument", opt.Long)
		}
		value, rest = rest[0], rest[1:]
	}
	return rest, opt.Set(value)
}

// short takes in a word of short options, and returns the arguments left.
func (p *Program) short(word string, rest []string) ([]string, error) {
	for i := 0; i < len(word); i++ {
		n := slices.IndexFunc(p.Options, func(o Option) bool { return o.Short != 0 && o.Short == word[i] })
		if n < 0 {
			return rest, Usage("invalid option -- '%c'", word[i])
		}
		opt := &p.Options[n]
		if opt.Value == "" {
			if err := opt.Set(""); err != nil {
				return rest, err
			}
			continue
		}
		value := word[i+1:]
		if value == "" && !opt.Optional {
			if len(rest) == 0 {
				return rest, Usage("option requires an argument -- '%c'", word[i])
			}
			value, rest = rest[0], rest[1:]
		}
		return rest, opt.Set(value)
	}
	return rest, nil
}
