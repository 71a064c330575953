package suite

// The servers, as seen past the adapter: by lib/pq alone, or as listeners that play a server that
// does not take a session.

import (
	"database/sql"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgproto3/v2"
	_ "github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/internal/testkit"
)

const pgSleep = "SELECT pg_sleep(60)::text"

// sleepers counts a server's blocked queries.
func (t *test) sleepers(port int) int {
	t.Helper()
	return t.count(port, "wait_event = 'PgSleep'")
}

func (t *test) awaitSleepers(port, n int) {
	t.Helper()
	testkit.Eventually(t, patience, fmt.Sprintf("%d blocked queries", n), func() (bool, string) {
		got := t.sleepers(port)
		return got == n, fmt.Sprintf("%d queries", got)
	})
}

// terminate ends the sleepers, as the terminator worker does.
func (t *test) terminate(port int) {
	t.Helper()
	testkit.Eventually(t, patience, "the backends' end", func() (bool, string) {
		t.count(port, "CASE WHEN wait_event = 'PgSleep' THEN pg_terminate_backend(pid) END")
		n := t.sleepers(port)
		return n == 0, fmt.Sprintf("%d queries", n)
	})
}

func (t *test) count(port int, where string) (n int) {
	t.Helper()
	t.ask(port, "SELECT count(*) FROM pg_stat_activity WHERE "+where, &n)
	return n
}

// ask asks a server for a value.
func (t *test) ask(port int, query string, value any) {
	t.Helper()
	db, err := sql.Open("postgres", fmt.Sprintf("host=127.0.0.1 port=%d user=postgres sslmode=disable", port))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query).Scan(value); err != nil {
		t.Fatal(err)
	}
}

// noServer is a listener that says something else than a server that takes a session.
type noServer struct {
	port  int
	mu    sync.Mutex
	users []string // of the startups
}

func (s *noServer) startups() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.users)
}

// noServer answers each startup by f, in a goroutine of its own.
func (t *test) noServer(f func(net.Conn)) *noServer {
	t.Helper()
	s := &noServer{}
	s.port = t.listen(func(nc net.Conn, m *pgproto3.StartupMessage) {
		s.mu.Lock()
		s.users = append(s.users, m.Parameters["user"])
		s.mu.Unlock()
		f(nc)
	})
	return s
}

// listen is the same, for an f that looks at what the startup says.
func (t *test) listen(f func(net.Conn, *pgproto3.StartupMessage)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer nc.Close()
				for b := pgproto3.NewBackend(pgproto3.NewChunkReader(nc), nc); ; {
					switch m, _ := b.ReceiveStartupMessage(); m := m.(type) {
					case *pgproto3.SSLRequest:
						nc.Write([]byte{'N'})
						continue
					case *pgproto3.StartupMessage:
						f(nc, m)
					}
					return
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

// fatal refuses the startup.
func fatal(code, message string) func(net.Conn) {
	return func(nc net.Conn) {
		b, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code,
			Message: message}).Encode(nil)
		nc.Write(b)
	}
}

var startingUp = fatal("57P03", "the database system is starting up")

// silent says nothing, until the client gives up.
func silent(nc net.Conn) { nc.Read(make([]byte, 1)) }

func hangUp(net.Conn) {}

// ownAddress is an address of this machine that is not a loopback one.
func (t *test) ownAddress() string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	t.Fatal("this machine has no address but loopback")
	return ""
}

// list writes host and port of a connection string, all hosts being 127.0.0.1.
func list(ports ...int) string {
	hosts, texts := make([]string, len(ports)), make([]string, len(ports))
	for i, p := range ports {
		hosts[i], texts[i] = "127.0.0.1", fmt.Sprint(p)
	}
	return "host=" + strings.Join(hosts, ",") + " port=" + strings.Join(texts, ",") + " user=postgres"
}
