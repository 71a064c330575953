package conf

// The section PARAMETERS of conmgr.conf(5), written from the table of parameters. A test in docs/man
// keeps the page equal to it. Pure functions.
//
// Markup of the rows: an empty line separates paragraphs, *words* are bold, and <words> in italics.

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// section is a heading of the manual.
type section struct {
	first, title, intro string // first: name of the first parameter
}

var sections = []section{
	{first: "port", title: "Connections of applications"},
	{first: "relay_port_any", title: "Relay ports", intro: `A connection to a relay port is carried to an instance with the port's attribute, chosen as for
*target_session_attrs*, byte by byte: any driver of any language can be used as it is, TLS is
between application and instance, and authentication too. (The instance sees the address of this
host.) When the instance is lost, its relayed connections are reset at once. If no instance has
the attribute, or none can be reached, the application gets the error "*no target server address
from Connection Manager*" (SQLSTATE 08001). When an instance gets another role, its relayed
connections remain, as direct ones do.

The ports are opened on *listen_addresses*, but take connections of this host only, as long as
*relay_allowed_networks* names no others: whoever comes from elsewhere would be this host to the
instance and its *pg_hba.conf*. Each relayed connection counts for *max_connections*, and needs
two file descriptors. A smart shutdown waits for relayed connections, a fast one resets them.

A request to cancel a query goes to all instances to which connections of the same relay port
are carried at that time; the others ignore it. An <encrypted> request, as *PQcancelCreate()* of
libpq makes since PostgreSQL 17 where the session is encrypted, can only be treated like a new
connection: it goes to the instance that is chosen at that time, and is lost if the session is
with another one, after a promotion for example, or where several standbys serve the port. *pg_cancel_backend()* on the instance itself,
or *PQcancel()*, which does not encrypt, reaches it.

These parameters are additions to the Connection Manager User Guide.`},
	{first: "destroy_sockets", title: "Destroying sockets"},
	{first: "http_port", title: "Monitoring"},
	{first: "backend_host", title: "Instances"},
	{first: "heartbeat_interval", title: "Heartbeats"},
	{first: "standby_timeline_grace", title: "Choice"},
	{first: "log_destination", title: "Messages"},
}

// Manual returns the section in the macros of man(7).
func Manual() string {
	var b strings.Builder
	b.WriteString(".SH PARAMETERS\n")
	for i := range Params {
		p := &Params[i]
		for _, s := range sections {
			if s.first != p.Name {
				continue
			}
			b.WriteString(".SS " + s.title + "\n")
			if s.intro != "" {
				b.WriteString(strings.Join(paragraphs(s.intro), ".PP\n"))
			}
		}
		p.manual(&b)
	}
	return b.String()
}

// manual writes the entry of a parameter.
func (p *Param) manual(b *strings.Builder) {
	heading := fmt.Sprintf(".BR %s \" (%s)\"", p.Name, p.kind())
	if p.Numbered {
		heading = fmt.Sprintf(".BI %s N \" \\fR(%s)\\fP\"", p.Name, p.kind())
	}
	text := paragraphs(p.Manual)
	text[0] += roff(p.limits())
	last := &text[len(text)-1]
	if p.Context == Postmaster {
		*last += "A change takes effect when \\fBconmgr\\fP is restarted.\n"
	}
	if p.Added {
		*last += "This parameter is an addition to the Connection Manager User Guide.\n"
	}
	fmt.Fprintf(b, ".TP\n%s\n%s", heading, text[0])
	if len(text) > 1 {
		fmt.Fprintf(b, ".RS\n.PP\n%s.RE\n", strings.Join(text[1:], ".PP\n"))
	}
}

// kind is the word for the type: how a value is written.
func (p *Param) kind() string {
	switch p.Type {
	case Integer, Octal:
		return "integer"
	case Duration:
		return "duration"
	case Enum:
		return "enum"
	case Boolean:
		return "boolean"
	}
	return "string"
}

// limits is a sentence on range and default.
func (p *Param) limits() string {
	value := "*" + p.Default + "*"
	allowed := ""
	switch p.Type {
	case Integer:
		allowed, value = fmt.Sprintf("%d to %d", p.Min, p.Max), p.Default
	case Octal:
		allowed, value = fmt.Sprintf("%04o to %04o", p.Min, p.Max), p.Default
	case Duration:
		allowed = fmt.Sprintf("%d ms to %d seconds", p.Min, p.Max/1000)
		if p.Also != "" {
			allowed += ", or " + p.Also
		}
		if n, err := strconv.Atoi(p.Default); err == nil {
			value = fmt.Sprintf("%d seconds", n)
			if n == 1 {
				value = "1 second"
			}
		}
	case Names:
		value = "'" + value + "'"
	case Enum, List:
		allowed = "Allowed are *" + strings.Join(p.Values, "*, *") + "*"
	}
	switch {
	case p.Default == "":
		return "There is no default."
	case allowed == "":
		return "The default is " + value + "."
	}
	return allowed + "; the default is " + value + "."
}

var (
	sentenceEnd = regexp.MustCompile(`([.:;]\)?) `)
	bold        = regexp.MustCompile(`\*(\*|[^*]+)\*`)
	italics     = regexp.MustCompile(`<([^>]+)>`)
	roffText    = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, `"`, `\(dq`, "×", `\(mu`)
)

// paragraphs turns the markup of a text into macros.
func paragraphs(text string) (all []string) {
	for _, p := range strings.Split(text, "\n\n") {
		all = append(all, roff(strings.Join(strings.Fields(p), " ")))
	}
	return all
}

// roff is a paragraph of the markup, a line a clause.
func roff(text string) string {
	text = bold.ReplaceAllString(italics.ReplaceAllString(roffText.Replace(text), `\fI$1\fP`), `\fB$1\fP`)
	lines := strings.Split(sentenceEnd.ReplaceAllString(text, "$1\n"), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, `\(aq`) {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n") + "\n"
}
