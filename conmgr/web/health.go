package web

// Health checks: by the paths of Patroni's REST API, 200 or 503. Patroni is one beside each server,
// and speaks of that one. A conmgr knows several, so that a check has to say which one it is about:
// by the port that it comes to (health_port), by the address that it comes to (that of the instance,
// where conmgr runs on the database host), by ?instance=, or because there is one only.

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/conmgr/bind"
	"github.com/pgwatchdog/watchdog/conmgr/conf"
	"github.com/pgwatchdog/watchdog/heartbeat"
)

// checks are the paths, and for which attributes an instance has to be offered; nil: others decide.
var checks = map[string][]cm.Attribute{
	"/primary":          {cm.Primary},
	"/master":           {cm.Primary},
	"/leader":           {cm.Primary},
	"/read-write":       {cm.ReadWrite},
	"/replica":          {cm.Standby},
	"/standby":          {cm.Standby},
	"/read-only":        {cm.Standby, cm.Primary},
	"/health":           nil,
	"/readiness":        nil,
	"/liveness":         nil,
	"/standby-leader":   {}, // of none: conmgr knows of no standby clusters, nor of who is synchronous
	"/standby_leader":   {},
	"/sync":             {},
	"/synchronous":      {},
	"/read-only-sync":   {},
	"/quorum":           {},
	"/read-only-quorum": {},
	"/async":            {cm.Standby},
	"/asynchronous":     {cm.Standby},
}

func isCheck(path string) bool {
	_, is := checks[path]
	return is
}

// isBareCheck tells whether a request for "/" is a health check, as HAProxy sends it ("option
// httpchk" without a path), and not somebody who wants the page: it has none of the headers that
// each browser and each tool has.
func (s *Server) isBareCheck(r *http.Request) bool {
	if r.Method == http.MethodOptions {
		return true
	}
	if len(r.Header.Values("Accept"))+len(r.Header.Values("User-Agent")) > 0 {
		return false
	}
	_, err := asked(s.Board.Table.Load(), r)
	return err == nil
}

// errWhich: the check does not say which instance it is about.
var errWhich = errors.New("which instance is asked about? Use the health_port of one, its own address, or ?instance= with its number")

// anyInstance stands for the set.
const anyInstance = -1

// asked is the index of the instance that a check is about, or anyInstance.
func asked(t *bind.Table, r *http.Request) (int, error) {
	byNumber := func(n int) (int, error) {
		i := slices.IndexFunc(t.Entries, func(e bind.Entry) bool { return e.Config.Number == n })
		if i < 0 {
			return 0, fmt.Errorf("there is no instance %d", n)
		}
		return i, nil
	}
	if n := portOf(r); n >= 0 {
		return byNumber(n)
	}
	switch q := r.URL.Query().Get("instance"); {
	case q == "any":
		return anyInstance, nil
	case q != "":
		n, err := strconv.ParseUint(q, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("invalid instance %q: it is a number, or any", conf.Clip(q))
		}
		return byNumber(int(n))
	}
	found := -1
	for i, to := range t.Entries {
		if a := to.Address(); a.IsValid() && a.WithZone("") == localOf(r) {
			if found >= 0 {
				return 0, errWhich
			}
			found = i
		}
	}
	switch {
	case found >= 0:
		return found, nil
	case len(t.Entries) == 1:
		return 0, nil
	}
	return 0, errWhich
}

// answer of a health check, in Patroni's words where it has some.
type answer struct {
	State    string  `json:"state"`          // running, or as in /status
	Role     string  `json:"role,omitempty"` // primary, replica
	Timeline *uint32 `json:"timeline,omitempty"`
	Why      string  `json:"why,omitempty"` // of 503
	Instance *int    `json:"instance,omitempty"`
	Host     string  `json:"host,omitempty"`
}

// check answers one.
func (s *Server) check(w http.ResponseWriter, r *http.Request) {
	code, a := s.judge(r)
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodGet {
		w.WriteHeader(code)
		return
	}
	b, _ := json.Marshal(a)
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n'))
}

func (s *Server) judge(r *http.Request) (code int, a answer) {
	path, t := r.URL.Path, s.Board.Table.Load()
	if path == "/" {
		path = "/primary"
	}
	if path == "/liveness" {
		if !s.Board.PingUntil(time.After(headerTime / 2)) {
			return http.StatusServiceUnavailable, answer{State: "hangs"}
		}
		return http.StatusOK, answer{State: "running"}
	}
	i, err := asked(t, r)
	if errors.Is(err, errWhich) && checks[path] == nil { // of conmgr itself
		i, err = anyInstance, nil
	}
	if err != nil {
		return http.StatusServiceUnavailable, answer{State: "unknown", Why: err.Error()}
	}
	request, err := lagOf(r)
	if err != nil {
		return http.StatusBadRequest, answer{State: "unknown", Why: err.Error()}
	}
	if i >= 0 {
		a = answerOf(&t.Entries[i])
	} else {
		a = answer{State: "running"}
	}
	if fits(t, i, path, request) {
		return http.StatusOK, a
	}
	a.Why = s.why(t, i, path)
	return http.StatusServiceUnavailable, a
}

// lagOf is what a check says of how far a standby may be behind: as Patroni has it, bytes or with a
// unit, and beyond that, as standby_max_lag.
func lagOf(r *http.Request) (request bind.Request, err error) {
	q := r.URL.Query().Get("lag")
	if q == "" {
		return request, nil
	}
	if strings.Trim(q, "0123456789") == "" {
		q += "B"
	}
	limit, err := conf.ParseLag(q)
	if err != nil {
		return request, fmt.Errorf("invalid lag %q: %w", conf.Clip(q), err)
	}
	request.Lag = &limit
	return request, nil
}

// fits tells whether an instance, or any, is what a path asks for.
func fits(t *bind.Table, i int, path string, request bind.Request) bool {
	if i == anyInstance {
		return slices.ContainsFunc(indices(t), func(i int) bool { return fits(t, i, path, request) })
	}
	wanted := checks[path]
	if wanted == nil {
		e := &t.Entries[i]
		up := e.Connected()
		if path == "/readiness" { // as good as /health, and not too far behind
			up = e.Established() && (e.IsPrimary() || request.Lag == nil || !request.Lag.Exceeded(e.Lag))
		}
		return up
	}
	for _, want := range wanted {
		request.Want = want
		if t.Offers(i, request) {
			return true
		}
	}
	return false
}

func indices(t *bind.Table) (all []int) {
	for i := range t.Entries {
		all = append(all, i)
	}
	return all
}

func (s *Server) why(t *bind.Table, i int, path string) string {
	switch {
	case i == anyInstance:
		return "no instance is what " + path + " asks for"
	case len(checks[path]) == 0 && checks[path] != nil:
		return "conmgr does not know of standby clusters, nor of synchronous standbys"
	}
	if why := t.NotUsed(i); why != "" {
		return why
	}
	return fmt.Sprintf("it is used for %s", strings.Join(t.UsedFor(i), ", "))
}

func answerOf(e *bind.Entry) answer {
	a := answer{State: e.State.String(), Instance: &e.Config.Number, Host: e.Config.Name()}
	if e.State == heartbeat.Established {
		a.State = "running"
	}
	switch e.Role() {
	case "primary":
		a.Role = "primary"
	case "standby":
		a.Role = "replica"
	}
	if e.Known && e.Attributes.Timeline > 0 {
		a.Timeline = &e.Attributes.Timeline
	}
	return a
}
