package probe

// What is known on this host: conmgr.conf, the conmgr process, and what it is allowed.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/control"
	"github.com/pgwatchdog/watchdog/doctor"
)

// configuration is conmgr.conf; nil: it has errors.
func configuration(dir string, facts *doctor.Facts) *conf.Config {
	c, diagnostics := conf.Load(dir)
	for _, d := range diagnostics {
		facts.Diagnostics = append(facts.Diagnostics, doctor.Diagnostic{Warning: d.Warning, Text: d.String(), Hint: d.Hint})
	}
	return c
}

// conmgr asks the process that runs in a directory.
func conmgr(ctx context.Context, dir string, limit time.Duration, c *conf.Config) (p doctor.Conmgr) {
	info, running, err := control.Running(dir)
	var unknown *control.UnidentifiedError
	p.Running, p.Pid = running, info.Pid
	switch {
	case errors.As(err, &unknown):
		p.Problem = err.Error()
		return p
	case !running:
		return p
	}
	version, answers, err := control.Ask(ctx, info, limit, "SHOW INSTANCES", "SHOW APPLICATIONS", "SHOW CONFIG")
	if err != nil {
		p.Problem = strings.ReplaceAll(err.Error(), "\n", "; ")
		return p
	}
	p.Version, p.Bound = version, len(answers[1])
	if c != nil && version == cm.Version {
		p.Differ = differing(c, answers[2])
	}
	for _, row := range answers[0] {
		n, err := strconv.Atoi(row[cm.ColInstance])
		if err != nil {
			continue
		}
		a, _ := netip.ParseAddr(row[cm.ColHostAddr])
		p.States = append(p.States, doctor.State{Number: n, State: row[cm.ColState], Role: row[cm.ColRole], Detail: row[cm.ColDetail],
			NotUsed: row[cm.ColNotUsed], Address: a.Unmap()})
	}
	return p
}

// differing are the parameters of conmgr.conf that have another value than the rows of SHOW CONFIG.
func differing(c *conf.Config, rows []map[string]string) (names []string) {
	uses := map[string]string{}
	for _, row := range rows {
		uses[row["name"]] = row["setting"]
		if c.Setting(row["name"]) == nil { // of an instance that is not there any more
			names = append(names, row["name"])
		}
	}
	for i := range c.Settings {
		s := &c.Settings[i]
		if value, known := uses[s.Name]; !known || value != s.Value {
			names = append(names, s.Name)
		}
	}
	return names
}

// host is what a process is allowed; 0 is this one, as nobody runs.
func host(pid int) (h doctor.Host) {
	h.Own = pid == 0
	if h.Own {
		pid = os.Getpid()
	}
	for line := range lines(fmt.Sprintf("/proc/%d/limits", pid)) {
		if rest, is := strings.CutPrefix(line, "Max open files"); is {
			if f := strings.Fields(rest); len(f) > 1 {
				h.Descriptors = limitOf(f[0])
				if h.Own {
					h.Descriptors = limitOf(f[1]) // conmgr raises its soft limit to the hard one
				}
			}
		}
	}
	for line := range lines(fmt.Sprintf("/proc/%d/status", pid)) {
		if rest, is := strings.CutPrefix(line, "CapEff:"); is {
			bits, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			h.NetAdmin = err == nil && bits&(1<<unix.CAP_NET_ADMIN) != 0
		}
	}
	return h
}

func limitOf(s string) uint64 {
	if s == "unlimited" {
		return 1 << 30
	}
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

// lines are those of a file; none if it cannot be read.
func lines(path string) func(func(string) bool) {
	return func(yield func(string) bool) {
		f, err := os.Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}
