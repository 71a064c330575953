//go:build patroni

package patroni

// Writing applications on the client host: by way of the front, of the Go client, and of a relay
// port.

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/driver/pqcm"
	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// roleVariable makes this test program the Go writer.
const roleVariable = "WATCHDOG_PATRONI_WRITER"

const relayPort = 27600

func TestMain(m *testing.M) {
	if conninfo := os.Getenv(roleVariable); conninfo != "" {
		fmt.Println(write("go", conninfo))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// write is writer.py in Go. database/sql repeats a statement of which nothing was sent; an INSERT
// that may have been executed is not repeated.
func write(name, conninfo string) error {
	connector, err := pqcm.NewConnector(conninfo)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	for number := 1; ; number++ {
		if err := writeOne(db, name, number); err != nil {
			fmt.Printf("error %.6f %s\n", testkit.Monotonic().Seconds(), strings.ReplaceAll(err.Error(), "\n", " "))
			time.Sleep(10 * time.Millisecond) // the pace of an application, not a wait
			continue
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func writeOne(db *sql.DB, name string, number int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var server string
	fmt.Printf("send %d %.6f\n", number, testkit.Monotonic().Seconds())
	err := db.QueryRowContext(ctx, "INSERT INTO written VALUES ($1, $2) RETURNING host(inet_server_addr())", name,
		number).Scan(&server)
	if err == nil {
		fmt.Printf("ack %d %.6f %s\n", number, testkit.Monotonic().Seconds(), server)
	}
	return err
}

// row that a writer has sent. A row is sent once: what failed is not repeated.
type row struct {
	number int
	sent   time.Duration
	acked  time.Duration // 0: not
	server string        // that has acknowledged it
}

type writer struct {
	name   string
	mu     sync.Mutex
	rows   []row
	errors []string
}

// startWriters starts all three.
func startWriters(t *testing.T, app *testnet.Host, cm *cmtest.Conmgr) []*writer {
	t.Helper()
	root, err := pgtest.SourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(root, "test", "patroni", "writer.py")
	rest := " user=postgres dbname=postgres sslmode=disable connect_timeout=10"
	byConmgr := fmt.Sprintf("host=127.0.0.1 port=%d target_session_attrs=read-write", cm.Addr().Port()) + rest
	byRelay := fmt.Sprintf("host=127.0.0.1 port=%d", relayPort) + rest
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PGCMUSER=*")
	return []*writer{
		startWriter(t, app, "front", append(env, "LD_LIBRARY_PATH="+filepath.Join(root, "build", "connmgr")),
			"/usr/bin/python3", script, "front", byConmgr),
		startWriter(t, app, "go", append(env, roleVariable+"="+byConmgr), self),
		startWriter(t, app, "relay", env, "/usr/bin/python3", script, "relay", byRelay),
	}
}

func startWriter(t *testing.T, app *testnet.Host, name string, env []string, program string, args ...string) *writer {
	t.Helper()
	w := &writer{name: name}
	cmd := app.Command(context.Background(), program, args...)
	cmd.Env = env
	out, err := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("writer %s: %v", name, err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			w.take(s.Text())
		}
		_ = cmd.Wait()
	}()
	testkit.Eventually(t, patience, "writer "+name+" writes",
		func() (bool, string) {
			return slices.ContainsFunc(w.since(0), func(x row) bool { return x.acked > 0 }), w.lastError()
		})
	return w
}

func (w *writer) take(line string) {
	f := strings.Fields(line)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(f) < 3 || f[0] == "error" {
		w.errors = append(w.errors, line)
		return
	}
	number, _ := strconv.Atoi(f[1])
	seconds, _ := strconv.ParseFloat(f[2], 64)
	at := time.Duration(seconds * float64(time.Second))
	switch {
	case f[0] == "send":
		w.rows = append(w.rows, row{number: number, sent: at})
	case f[0] == "ack" && len(f) == 4 && len(w.rows) > 0:
		last := &w.rows[len(w.rows)-1]
		last.acked, last.server = at, f[3]
	}
}

func (w *writer) lastError() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.errors) == 0 {
		return "no error"
	}
	return w.errors[len(w.errors)-1]
}

// since returns the rows that were sent, or acknowledged, from a moment on.
func (w *writer) since(at time.Duration) (out []row) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.rows {
		if x.sent >= at || x.acked >= at {
			out = append(out, x)
		}
	}
	return out
}

// wrote tells whether a server has acknowledged a row since a moment.
func (w *writer) wrote(server string, since time.Duration) bool {
	return slices.ContainsFunc(w.since(since), func(x row) bool { return x.acked >= since && x.server == server })
}
