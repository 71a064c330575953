package cmdline

// Completion of bash.

import (
	"fmt"
	"slices"
	"strings"
)

// Bash is a file for bash-completion.
func (p *Program) Bash() string {
	var b strings.Builder
	f := "_" + strings.ReplaceAll(p.Name, "-", "_")
	fmt.Fprintf(&b, `# bash completion of %s, made from its table of options

%s()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} action= words= i
	# --option=value is three words
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
`, p.Name, f)
	if len(p.Actions) > 0 {
		fmt.Fprintf(&b, `	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		%s)
			action=${COMP_WORDS[i]}
			break
			;;
		esac
	done
`, strings.Join(p.names(), " | "))
	}
	b.WriteString("	COMPREPLY=()\n	case $action:$prev in\n")
	for i := range p.Options {
		if o := &p.Options[i]; o.Value != "" && !o.Optional {
			fmt.Fprintf(&b, "	%s)\n%s\t\treturn\n\t\t;;\n", strings.Join(o.patterns(), " | "), o.bashValues())
		}
	}
	b.WriteString("	esac\n	case $action in\n")
	for _, a := range append([]Action{{}}, p.Actions...) {
		words := p.offered(a.Name)
		if a.Name == "" {
			words = append(p.names(), words...)
		}
		fmt.Fprintf(&b, "	%s) words='%s' ;;\n", a.pattern(), strings.Join(append(a.Words, words...), " "))
	}
	fmt.Fprintf(&b, `	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F %s %s
`, f, p.Name)
	return b.String()
}

func (a Action) pattern() string {
	if a.Name == "" {
		return "''"
	}
	return a.Name
}

func (p *Program) names() (names []string) {
	for _, a := range p.Actions {
		names = append(names, a.Name)
	}
	return names
}

// isFor tells whether an option is one of an action's; what is of none is of all, and before it is
// known which one it is, all are.
func (o *Option) isFor(action string) bool {
	return action == "" || len(o.Of) == 0 || slices.Contains(o.Of, action)
}

// offered are the options of an action.
func (p *Program) offered(action string) (words []string) {
	add := func(word string) {
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	for i := range p.Options {
		if o := &p.Options[i]; o.isFor(action) {
			if o.Short != 0 {
				add("-" + string(o.Short))
			}
			add("--" + o.Long)
		}
	}
	return words
}

// patterns are the words action:option that its value follows.
func (o *Option) patterns() (all []string) {
	actions := append([]string{""}, o.Of...) // also before it is known which one it is
	if len(o.Of) == 0 || slices.Contains(o.Of, "") {
		actions = []string{"*"}
	}
	for _, a := range actions {
		if o.Short != 0 {
			all = append(all, fmt.Sprintf("%s:-%c", a, o.Short))
		}
		all = append(all, a+":--"+o.Long)
	}
	return all
}

// bashValues completes the value.
func (o *Option) bashValues() string {
	switch {
	case o.Kind == Directory:
		return "\t\tcompopt -o filenames\n\t\tmapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n"
	case o.Kind == File:
		return "\t\tcompopt -o filenames\n\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	case len(o.Words) > 0:
		return fmt.Sprintf("\t\tmapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")\n", strings.Join(o.Words, " "))
	}
	return ""
}
