package test

// Applications that write rows, one after the other, by the front (psql), by the Go client (this
// test program, run again) and by a relay port (psql): what was sent, when, and what was
// acknowledged.

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
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

// goWriterVariable makes this test program the Go writer.
const goWriterVariable = "WATCHDOG_TEST_GO_WRITER"

const writerRelayPort = 27600

// goWriter reads INSERT statements, and prints the number that each returns; it ends at the first
// error, as psql does.
func goWriter(conninfo string) error {
	connector, err := pqcm.NewConnector(conninfo)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	conn, err := db.Conn(context.Background())
	if err != nil {
		return err
	}
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		var number string
		if err := conn.QueryRowContext(context.Background(), s.Text()).Scan(&number); err != nil {
			return err
		}
		fmt.Println(number)
	}
	return nil
}

// writer is one application, which connects again after each error.
type writer struct {
	t       *testing.T
	name    string
	command func() *exec.Cmd

	mu    sync.Mutex
	sent  map[int]time.Duration // by number: when
	acked map[int]bool
	last  time.Duration // when what was acknowledged last was sent
	said  string        // of its last end
}

// startWriters starts one of each kind on a client host; they end with the test.
func startWriters(t *testing.T, from *testnet.Host, cm *cmtest.Conmgr) (all []*writer) {
	t.Helper()
	root, err := pgtest.SourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const rest = " user=postgres dbname=postgres sslmode=disable connect_timeout=10"
	byConmgr := fmt.Sprintf("host=127.0.0.1 port=%d target_session_attrs=read-write", cm.Addr().Port()) + rest
	byRelay := fmt.Sprintf("host=127.0.0.1 port=%d", writerRelayPort) + rest
	front := "LD_LIBRARY_PATH=" + filepath.Join(root, "build", "connmgr")
	psql := []string{"psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d"}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for _, x := range []struct {
		name string
		env  string
		args []string
	}{
		{"front", front, append(psql, byConmgr)},
		{"go", goWriterVariable + "=" + byConmgr, []string{self}},
		{"relay", "PGAPPNAME=relay", append(psql, byRelay)},
	} {
		w := &writer{t: t, name: x.name, sent: map[int]time.Duration{}, acked: map[int]bool{}}
		w.command = func() *exec.Cmd {
			cmd := from.Command(context.Background(), x.args[0], x.args[1:]...)
			cmd.Env = append(os.Environ(), "PGCMUSER=*", x.env)
			return cmd
		}
		group.Add(1)
		go func() {
			defer group.Done()
			w.run(stop)
		}()
		all = append(all, w)
	}
	t.Cleanup(func() { close(stop); group.Wait() })
	return all
}

// run starts the program again and again.
func (w *writer) run(stop <-chan struct{}) {
	for number := 1; ; {
		cmd := w.command()
		in, err := cmd.StdinPipe()
		if err != nil {
			w.t.Error(err)
			return
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			w.t.Error(err)
			return
		}
		var errors strings.Builder
		cmd.Stderr = &errors
		if err := cmd.Start(); err != nil {
			w.t.Error(err)
			return
		}
		ended := make(chan struct{})
		go func() { // it may wait for an answer for long
			select {
			case <-stop:
				_ = cmd.Process.Kill()
			case <-ended:
			}
		}()
		number = w.write(number, in, out)
		_ = in.Close()
		_ = cmd.Wait()
		close(ended)
		w.mu.Lock()
		w.said = errors.String()
		w.mu.Unlock()
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Millisecond): // the pace of an application, not a wait
		}
	}
}

// write sends rows until one is not acknowledged.
func (w *writer) write(number int, in io.Writer, out io.Reader) int {
	lines := bufio.NewScanner(out)
	for ; ; number++ {
		at := testnet.Monotonic()
		w.mu.Lock()
		w.sent[number] = at
		w.mu.Unlock()
		if _, err := fmt.Fprintf(in, "INSERT INTO written VALUES ('%s', %d) RETURNING number;\n", w.name,
			number); err != nil {
			return number + 1
		}
		if !lines.Scan() || lines.Text() != fmt.Sprint(number) {
			return number + 1
		}
		w.mu.Lock()
		w.acked[number], w.last = true, at
		w.mu.Unlock()
		time.Sleep(3 * time.Millisecond) // the pace of an application, not a wait
	}
}

// waitWrites waits until a row is acknowledged that was sent after a moment.
func (w *writer) waitWrites(t *testing.T, after time.Duration) {
	t.Helper()
	testkit.Eventually(t, patience, "writer "+w.name+" writes", func() (bool, string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.last > after, w.said
	})
}

// rowsOn are the numbers that a server has of the writer.
func (w *writer) rowsOn(t *testing.T, c *pgtest.Cluster) map[int]bool {
	t.Helper()
	rows := map[int]bool{}
	for _, r := range c.Query("SELECT number::text FROM written WHERE name = $1", w.name) {
		var n int
		if _, err := fmt.Sscan(r[0], &n); err != nil {
			t.Fatal(err)
		}
		rows[n] = true
	}
	return rows
}

// check compares what was sent after a moment with what both servers have. It returns how many rows
// were acknowledged since then.
func (w *writer) check(t *testing.T, after time.Duration, old, current *pgtest.Cluster) (acked int) {
	t.Helper()
	w.mu.Lock()
	sent, confirmed := maps.Clone(w.sent), maps.Clone(w.acked) // it goes on writing
	w.mu.Unlock()
	onOld, onCurrent := w.rowsOn(t, old), w.rowsOn(t, current)
	for number, at := range sent {
		if at <= after {
			continue
		}
		if onOld[number] {
			t.Errorf("%s: row %d, sent %v after the new primary was known, is on the outdated server", w.name, number,
				at-after)
		}
		if confirmed[number] {
			acked++
			if !onCurrent[number] {
				t.Errorf("%s: row %d, acknowledged, sent %v after the new primary was known, is lost", w.name, number,
					at-after)
			}
		}
	}
	return acked
}
