package conf

// The sample conmgr.conf, written from the table of parameters. A test keeps
// packaging/conmgr.conf.sample equal to it.

//go:generate go test -run TestSample -update .

import (
	"fmt"
	"strings"
)

// Allowed describes the values of a parameter in one phrase.
func (p *Param) Allowed() string {
	switch p.Type {
	case Integer:
		if p.Max == 2147483647 {
			return fmt.Sprintf("integer, at least %d", p.Min)
		}
		return fmt.Sprintf("integer, %d to %d", p.Min, p.Max)
	case Duration:
		s := fmt.Sprintf("seconds, or with a unit (ms, s, min, h, d), %d ms to %d s", p.Min, p.Max/1000)
		if p.Also != "" {
			s += "; or " + p.Also
		}
		return s
	case List:
		return "list of " + strings.Join(p.Values, ", ")
	case Enum:
		return strings.Join(p.Values, ", ")
	case Boolean:
		return "on or off"
	case Networks:
		return "list of networks such as 192.0.2.0/24"
	case Octal:
		return "octal number, 0000 to 0777"
	case Lag:
		return "size or duration with its unit (B, kB, MB, GB, TB, ms, s, min, h, d), or empty"
	case IPAddress:
		return "IPv4 or IPv6 address"
	}
	return "string"
}

// Written is the default as it stands in a file.
func (p *Param) Written() string {
	if p.Type == Integer || p.Type == Duration || p.Type == Enum || p.Type == Boolean || p.Type == Octal {
		return p.Default
	}
	return Quote(p.Default)
}

// Sample returns the text of conmgr.conf.sample.
func Sample() string {
	var b strings.Builder
	b.WriteString(`# conmgr.conf: configuration of the Connection Manager
#
# One "name = value" a line; # begins a comment. Strings are written in single quotes ('' is a quote). The commented values are the
# defaults. "conmgr --check -D directory" tells all errors of the file. A change takes effect at "cm_ctl reload", or, where that is
# said, when conmgr is restarted: "cm_ctl restart" ends no session. Other files are read by include = 'file', include_if_exists = 'file'
# and include_dir = 'directory', as in postgresql.conf.

`)
	numbered := false
	for i := range Params {
		p := &Params[i]
		name := p.Name
		if p.Numbered {
			if !numbered {
				b.WriteString("# The instances. The number after the name says which settings belong together; it begins with 0, and numbers may be missing.\n\n")
			}
			name += "0"
		}
		numbered = p.Numbered
		effect := ""
		if p.Context == Postmaster {
			effect = "; change requires restart"
		}
		fmt.Fprintf(&b, "# %s\n# (%s%s)\n#%s = %s\n\n", p.Doc, p.Allowed(), effect, name, p.Written())
	}
	return strings.TrimSuffix(b.String(), "\n")
}
