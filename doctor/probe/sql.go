package probe

// A session by SQL, with the credentials that were given: what the server says of itself and of us.
// pgx reads connection strings, the environment, password and service files as libpq does.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgwatchdog/watchdog/doctor"
)

// given tells whether there are credentials: a connection string, or the environment's.
func given(conninfo string, getenv func(string) string) bool {
	return conninfo != "" || getenv("PGUSER") != "" || getenv("PGPASSWORD") != "" || getenv("PGPASSFILE") != "" || getenv("PGSERVICE") != ""
}

// libpqOnly are parameters of libpq that pgx takes for the server's.
var libpqOnly = []string{"hostaddr", "gssencmode", "channel_binding", "fallback_application_name", "keepalives", "keepalives_idle",
	"keepalives_interval", "keepalives_count", "tcp_user_timeout", "load_balance_hosts", "requirepeer", "require_auth", "sslcompression",
	"sslcrl", "sslcrldir", "sslcertmode", "krbsrvname", "gsslib", "gssdelegation", "replication", "ssl_max_protocol_version"}

// quoted is a value of a connection string.
var quoted = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// towards is the configuration for one instance, whatever host the connection string names.
func towards(conninfo, host string, to netip.AddrPort) (*pgx.ConnConfig, error) {
	port := strconv.Itoa(int(to.Port()))
	if scheme, rest, ok := strings.Cut(conninfo, "://"); ok && (scheme == "postgres" || scheme == "postgresql") {
		// The hosts leave first: several with ports are no host of a URI to everybody.
		end := len(rest)
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			end = i
		}
		user := rest[:strings.LastIndexByte(rest[:end], '@')+1]
		u, err := url.Parse(scheme + "://" + user + "host" + rest[end:])
		if err != nil {
			return nil, errors.New("the connection string is no URI")
		}
		q := u.Query()
		q.Del("host")
		q.Del("port")
		u.Host, u.RawQuery = net.JoinHostPort(host, port), q.Encode()
		conninfo = u.String()
	} else {
		if conninfo != "" && !strings.Contains(conninfo, "=") { // as psql's -d has it
			conninfo = "dbname='" + quoted.Replace(conninfo) + "'"
		}
		conninfo += " host='" + quoted.Replace(host) + "' port=" + port
	}
	c, err := pgx.ParseConfig(conninfo)
	if err != nil {
		return nil, err
	}
	for _, name := range libpqOnly {
		delete(c.RuntimeParams, name)
	}
	c.RuntimeParams["application_name"] = "cm_ctl"
	c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{to.Addr().String()}, nil }
	c.ValidateConnect = nil // whatever target_session_attrs says
	return c, nil
}

// session connects to one address.
func session(ctx context.Context, conninfo, host string, to netip.AddrPort, limit time.Duration) *doctor.Session {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := try(ctx, conninfo, host, to)
	if err != nil {
		return &doctor.Session{Problem: sqlText(err)}
	}
	return s
}

// sqlText is what the server says, or the last of the reasons why it could not be asked.
func sqlText(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Message
	}
	lines := strings.Split(err.Error(), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

func try(ctx context.Context, conninfo, host string, to netip.AddrPort) (*doctor.Session, error) {
	c, err := towards(conninfo, host, to)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return question(ctx, conn)
}

func question(ctx context.Context, conn *pgx.Conn) (*doctor.Session, error) {
	s := &doctor.Session{}
	var client, port, extension *string
	var clock time.Time
	begin := time.Now()
	err := conn.QueryRow(ctx, `SELECT host(inet_client_addr()), clock_timestamp(), current_setting('server_version'),
		current_setting('watchdog.port', true), (SELECT extversion FROM pg_extension WHERE extname = 'watchdog')`).Scan(
		&client, &clock, &s.Server, &port, &extension)
	if err != nil {
		return nil, err
	}
	s.Offset = clock.Sub(begin.Add(time.Since(begin) / 2))
	s.Server, _, _ = strings.Cut(s.Server, " ")
	s.Client, _ = netip.ParseAddr(orEmpty(client))
	n, err := strconv.Atoi(orEmpty(port))
	s.Preloaded, s.Extension = err == nil && n > 0, orEmpty(extension)
	if s.Extension == "" || !s.Preloaded {
		return s, nil
	}
	s.Rows, err = serverRows(ctx, conn)
	return s, err
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// serverRows are those of watchdog_doctor(), if the extension has it and this user may call it.
func serverRows(ctx context.Context, conn *pgx.Conn) ([]doctor.Row, error) {
	var function *string // with its schema: the extension may be in any
	err := conn.QueryRow(ctx, `SELECT max(format('%I.%I', nspname, proname)) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
		JOIN pg_extension e ON e.extnamespace = n.oid WHERE extname = 'watchdog' AND proname = 'watchdog_doctor' AND pronargs = 0
		AND has_function_privilege(p.oid, 'EXECUTE') AND has_schema_privilege(n.oid, 'USAGE')`).Scan(&function)
	if err != nil || function == nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, "SELECT * FROM "+*function+"()", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []doctor.Row
	for rows.Next() {
		var r doctor.Row
		for i, v := range rows.RawValues() { // text, by the simple protocol
			r.Set(rows.FieldDescriptions()[i].Name, string(v))
		}
		all = append(all, r)
	}
	return all, rows.Err()
}
