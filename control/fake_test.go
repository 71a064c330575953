package control

// A conmgr of the tests' own: it keeps the contract of the pid file and of the signals, and fails on
// demand. It obeys files in its directory, so that tests decide when it goes on. Its console is
// conmgr's own (console_test.go), but where no conmgr of today answers so: garbage, a server that is
// none, a conmgr without FORGET, and the fixed table by which the output is held to the letter.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgwatchdog/watchdog/cm"
)

const (
	behaviourVariable = "CONTROL_TEST_CONMGR"
	// ServerVariable is the port of the instances, which are on this host then.
	ServerVariable = "CONTROL_TEST_SERVER"
)

// StartConsole serves a listener by conmgr's own console.
var StartConsole func(l net.Listener, behaviour string, reload func() FakeReload) (promote func(), err error)

// FakeReload is what RELOAD does: the rows, or the error; and what comes after the answer.
type FakeReload struct {
	Rows               [][3]string
	Text, Detail, Hint string
	Then               func()
}

// reloadFake does what the file "reload" says: a row a line, or an error with its detail and hint.
// then is what has to be in place.
func reloadFake(dir string, then func()) (r FakeReload) {
	b, _ := os.ReadFile(filepath.Join(dir, "reload"))
	r.Then = func() {}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if text, is := strings.CutPrefix(line, "ERROR "); is {
			r.Text, r.Detail, r.Hint = text, "a.conf:2: another\nHINT:  of that", "Look there. Nothing was changed."
			return r
		}
		if f := strings.Fields(line); len(f) > 2 {
			effect := strings.Join(f[2:], " ")
			r.Rows = append(r.Rows, [3]string{f[0], f[1], effect})
			if effect == cm.EffectInPlace {
				r.Then = then
			}
		}
	}
	return r
}

// HasNoPrimary tells whether the instances are standbys at first.
func HasNoPrimary(behaviour string) bool { return strings.HasPrefix(behaviour, "standbys") }

func fakeConmgr() int {
	dir := os.Args[2] // conmgr -D DIR
	has := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	behaviour := os.Getenv(behaviourVariable)
	if os.Args[1] == "--check" {
		return checkFake(os.Args[3], os.Args[len(os.Args)-1] == cm.HandoverOption)
	}
	fmt.Fprintf(os.Stderr, "conmgr: LOG: hello from %s\n", behaviour)
	if behaviour == "broken" {
		fmt.Fprintln(os.Stderr, "conmgr: FATAL: conmgr.conf line 1: unrecognized parameter \"prot\"")
		return 1
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	info := Info{Port: listener.Addr().(*net.TCPAddr).Port, ListenAddresses: "localhost"}
	if behaviour == "becomes" {
		info.Again = Again{Returns: true, Becomes: true, Image: "1"}
	}
	pidFile, err := CreatePidFile(dir, info)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conmgr: FATAL:", err)
		return 1
	}
	defer func() { _ = pidFile.Remove() }()
	if behaviour == "dies" {
		return 1
	}
	promote, again := func() {}, make(chan struct{}, 1)
	switch behaviour {
	case "fixed", "postgres", "garbled", "endless":
		go serveFake(listener, behaviour)
	default:
		inPlace := func() { again <- struct{}{} }
		if promote, err = StartConsole(listener, behaviour, func() FakeReload { return reloadFake(dir, inPlace) }); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	smart := false
	var progress Progress
	tell := func() {
		if err := pidFile.SetProgress(progress); err != nil {
			panic(err)
		}
	}
	refuses := func() bool {
		if !has("refuses") {
			return false
		}
		progress.Refused = Refused{Times: progress.Refused.Times + 1, Why: "no \"way\"\x1b\nnor another one"}
		tell()
		return true
	}
	for {
		select {
		case <-again:
			if has("dies") {
				return 1
			}
			if refuses() {
				continue
			}
			if !has("stays") {
				if pidFile, err = becomeFake(pidFile, dir, info); err != nil {
					panic(err)
				}
			}
			progress = Progress{} // until it is connected
		case s := <-signals:
			_ = os.WriteFile(filepath.Join(dir, "signalled"), []byte(s.String()), 0o600)
			if s == syscall.SIGUSR2 && refuses() {
				continue
			}
			if s == syscall.SIGUSR2 {
				if pidFile, err = becomeFake(pidFile, dir, info); err != nil {
					panic(err)
				}
				continue
			}
			progress.Stopping = true
			tell()
			if s != syscall.SIGINT {
				return 0
			}
			smart = true
		case <-time.After(5 * time.Millisecond):
		}
		if has("promoted") {
			promote()
			promote = func() {}
		}
		if smart && has("applications-gone") {
			return 0
		}
		if behaviour == "standbys of 1.0" {
			if err := withoutPresence(filepath.Join(dir, cm.PidFile)); err != nil {
				panic(err)
			}
			continue
		}
		if behaviour == "standbys" {
			progress.Been.All, progress.Now = true, Presence{All: true, Primary: has("promoted")}
			tell()
			continue
		}
		if has("unready") {
			continue
		}
		if behaviour != "slow" || has("ready") {
			progress.Been.Primary, progress.Now.Primary = true, true
			tell()
		}
		if behaviour != "slow" || has("complete") {
			progress.Been.All, progress.Now.All = true, true
			tell()
		}
	}
}

// checkFake is conmgr --check.
func checkFake(dir string, handover bool) int {
	has := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	if has("bad-conf") {
		fmt.Fprintln(os.Stderr, "conmgr.conf:1: unrecognized parameter")
		return 1
	}
	if handover && has("knows-nothing") {
		fmt.Fprintln(os.Stderr, "unrecognized argument")
		return 1
	}
	return 0
}

// becomeFake is the pid file of the program that it has become.
func becomeFake(old *PidFile, dir string, info Info) (*PidFile, error) {
	fd, err := old.Leave()
	if err != nil {
		return nil, err
	}
	info.Again.Image = "2"
	return AdoptPidFile(dir, info, fd)
}

// withoutPresence makes a pid file one of version 1.0, of a conmgr that has all its instances.
func withoutPresence(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.SplitAfter(string(b), "\n")
	text := strings.Join(lines[:pidFileLines-1], "") + "complete\n"
	if text == string(b) {
		return nil
	}
	// never an empty file, nor half of one: somebody may be reading
	if err := os.Truncate(path, int64(len(text))); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func serveFake(listener net.Listener, behaviour string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			backend := pgproto3.NewBackend(pgproto3.NewChunkReader(conn), conn)
			if _, err := backend.ReceiveStartupMessage(); err != nil {
				return
			}
			send := func(messages ...pgproto3.BackendMessage) {
				for _, m := range messages {
					_ = backend.Send(m)
				}
			}
			send(&pgproto3.AuthenticationOk{})
			if behaviour != "postgres" {
				send(&pgproto3.ParameterStatus{Name: "conmgr.version", Value: "1.0"})
			}
			send(&pgproto3.BackendKeyData{}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
			for {
				m, err := backend.Receive()
				q, ok := m.(*pgproto3.Query)
				if err != nil || !ok {
					return
				}
				switch {
				case behaviour == "garbled":
					// a value of -16 bytes
					_, _ = conn.Write([]byte("T\x00\x00\x00\x06\x00\x00D\x00\x00\x00\x0a\x00\x01\xff\xff\xff\xf0"))
				case behaviour == "endless":
					_, _ = conn.Write([]byte("D\x7f\xff\xff\xff\x00\x01"))
				case q.String == "SHOW INSTANCES":
					send(answer("instance host hostaddr port watchdog_port state role read_only timeline last_heartbeat_ms "+
						"generation detail used_for not_used last_role system_identifier draining bound lag_bytes lag_ms",
						"0 db0 10.0.0.1 27500 27545 established primary off 3 412 0 - any,read-write - primary 7000000000000000001 here 3 - -",
						"2 db2 - 5432 27545 lost - - - - 1 refused - unreachable primary - - - 4096 12")...)
				case strings.HasPrefix(q.String, "SHOW EVENTS AFTER "):
					send(answer(strings.Join(cm.EventColumns, " "), eventsAfter(q.String[18:])...)...)
				case q.String == "SHOW APPLICATIONS":
					send(answer("client_addr client_port application_name target instance connected_at via",
						"127.0.0.1 40000 \x1b[31mred read-write 0 2026-01-02T03:04:05Z bind")...)
				default:
					send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "0A000", Message: "no"},
						&pgproto3.ReadyForQuery{TxStatus: 'I'})
				}
			}
		}()
	}
}

// eventsAfter are three, one of which comes with the second question.
func eventsAfter(last string) []string {
	all := []string{"1 2026-01-02T03:04:05.678Z lost WARNING 0 db\"0 5432 silence is\x1blost - look 3",
		"2 2026-01-02T03:04:06.678Z started LOG - - - - 7 de<tail - -"}
	switch last {
	case "0":
		return all
	case "2":
		return []string{"3 2026-01-02T03:04:07.678Z ended LOG - - - - 8 - - -"}
	}
	return nil
}

// answer makes rows of words; "-" is NULL.
func answer(columns string, lines ...string) []pgproto3.BackendMessage {
	var description pgproto3.RowDescription
	for _, c := range strings.Fields(columns) {
		description.Fields = append(description.Fields,
			pgproto3.FieldDescription{Name: []byte(c), DataTypeOID: 25, DataTypeSize: -1})
	}
	messages := []pgproto3.BackendMessage{&description}
	for _, line := range lines {
		var row pgproto3.DataRow
		for _, v := range strings.Fields(line) {
			if v == "-" {
				row.Values = append(row.Values, nil)
			} else {
				row.Values = append(row.Values, []byte(v))
			}
		}
		messages = append(messages, &row)
	}
	return append(messages, &pgproto3.CommandComplete{CommandTag: []byte("SHOW")},
		&pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// cmCtl is cm_ctl as a process, which starts fakeConmgr.
func cmCtl() int {
	if err := os.Setenv(roleVariable, "conmgr"); err != nil {
		return 99
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
	defer stop()
	return Command{Args: os.Args[1:], Getenv: os.Getenv, Stdout: os.Stdout, Stderr: os.Stderr, Euid: 1000,
		Conmgr: os.Args[0]}.Run(ctx)
}

func cmCtlProcess(behaviour string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"=cm_ctl", behaviourVariable+"="+behaviour)
	return cmd
}
