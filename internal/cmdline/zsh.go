package cmdline

// Completion of zsh.

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Zsh is a file for a directory of fpath, by the name of the program with a _ before it.
func (p *Program) Zsh() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %s\n# zsh completion of %s, made from its table of options\n\n", p.Name, p.Name)
	if len(p.Actions) == 0 {
		b.WriteString("_arguments -s -S" + p.zshOptions("") + "\n")
		return b.String()
	}
	b.WriteString("local operation word\nlocal -a operations\noperations=(\n")
	for _, a := range p.Actions {
		fmt.Fprintf(&b, "\t%s\n", zshQuote(a.Name+":"+a.Doc))
	}
	fmt.Fprintf(&b, ")\nfor word in ${words[2,CURRENT-1]}; do\n\tcase $word in\n\t%s)\n\t\toperation=$word\n\t\tbreak\n\t\t;;\n\tesac\ndone\n",
		strings.Join(p.names(), " | "))
	b.WriteString("case $operation in\n")
	for _, a := range p.Actions {
		fmt.Fprintf(&b, "%s)\n\t_arguments -s -S%s%s\n\t;;\n", a.Name, " \\\n\t\t'1: :'", p.zshOperand(a)+p.zshOptions(a.Name))
	}
	fmt.Fprintf(&b, "*)\n\t_arguments -s -S \\\n\t\t'1:operation:{_describe operation operations}'%s\n\t;;\nesac\n", p.zshOptions(""))
	return b.String()
}

func (p *Program) zshOperand(a Action) string {
	if a.Operand == "" {
		return ""
	}
	words := " "
	if len(a.Words) > 0 {
		words = "(" + strings.Join(a.Words, " ") + ")"
	}
	return " \\\n\t\t" + zshQuote("2:"+strings.ToLower(a.Operand)+":"+words)
}

// zshOptions are the arguments of _arguments for the options of an action.
func (p *Program) zshOptions(action string) string {
	var b strings.Builder
	var seen []string
	for i := range p.Options {
		o := &p.Options[i]
		if !o.isFor(action) || slices.Contains(seen, o.Long) || o.Short != 0 && slices.Contains(seen, string(o.Short)) {
			continue
		}
		seen = append(seen, o.Long, string(o.Short))
		text := "[" + strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`).Replace(o.brief()) + "]" + o.zshValues()
		short, long := "-"+string(o.Short), "--"+o.Long
		if o.Value != "" && !o.Optional {
			short, long = short+"+", long+"="
		} else if o.Optional {
			long += "=-"
		}
		if o.Short == 0 {
			b.WriteString(" \\\n\t\t" + zshQuote(long+text))
		} else {
			exclusive := zshQuote(fmt.Sprintf("(-%c --%s)", o.Short, o.Long))
			b.WriteString(" \\\n\t\t" + exclusive + "{" + zshQuote(short) + "," + zshQuote(long) + "}" + zshQuote(text))
		}
	}
	return b.String()
}

// aside is what stands in parentheses.
var aside = regexp.MustCompile(` \([^()]*\)`)

// brief is the first clause of the help, without what stands in parentheses.
func (o *Option) brief() string {
	s := aside.ReplaceAllString(strings.Join(strings.Fields(o.Help), " "), "")
	s, _, _ = strings.Cut(s, "; ")
	return s
}

func (o *Option) zshValues() string {
	if o.Value == "" {
		return ""
	}
	colon := ":"
	if o.Optional {
		colon = "::"
	}
	what := colon + strings.ToLower(o.Value) + ":"
	switch {
	case o.Kind == Directory:
		return what + "_directories"
	case o.Kind == File:
		return what + "_files"
	case len(o.Words) > 0:
		return what + "(" + strings.Join(o.Words, " ") + ")"
	}
	return what + " "
}

func zshQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
