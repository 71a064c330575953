package test

// Relay ports and TLS, which is between client and instance: certificates, much data, cancel
// requests in the clear and encrypted, loss.

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgwatchdog/watchdog/internal/cmtest"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// serveTLS gives the primary a certificate for the name relay.test, and returns the file by which
// clients verify it.
func (w *world) serveTLS() (root string) {
	w.Helper()
	crt, key := filepath.Join(w.primary.DataDir, "server.crt"), filepath.Join(w.primary.DataDir, "server.key")
	out, err := exec.Command("openssl", "req", "-new", "-x509", "-days", "2", "-nodes", "-subj", "/CN=relay.test",
		"-addext", "subjectAltName=DNS:relay.test",
		"-out", crt, "-keyout", key).CombinedOutput()
	if err != nil {
		w.Fatalf("openssl: %v: %s", err, out)
	}
	root = filepath.Join(w.TempDir(), "root.crt")
	text, err := os.ReadFile(crt)
	if err = errors.Join(err, os.WriteFile(root, text, 0o644), os.Chmod(key, 0o600), os.Chown(key, 65534, 65534),
		os.Chown(crt, 65534, 65534)); err != nil {
		w.Fatal(err)
	}
	w.primary.Configure("ssl", "on")
	w.primary.Reload()
	return root
}

// TestRelayTLS: encryption is between client and instance, and the certificate is the instance's.
func TestRelayTLS(t *testing.T) {
	w := newWorld(t)
	client := w.net.Host("client")
	root := w.serveTLS()
	cm := cmtest.Start(t, client, cmtest.Config{Interval: "300ms", Timeout: "2s",
		Clusters: []*pgtest.Cluster{w.primary}, Extra: relayConf})
	cm.WaitInstance(0, "state", "established")

	dsn := fmt.Sprintf("host=relay.test hostaddr=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=verify-full sslrootcert=%s application_name=tls", relayReadWrite, root)
	const query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
	_, result := w.psql(client, dsn, query)
	if got := <-result; got != "t\n<nil>" {
		t.Errorf("psql: %s", got)
	}
	conf, err := pgx.ParseConfig(relayDSN(relayReadWrite))
	if err != nil {
		t.Fatal(err)
	}
	conf.DialFunc, conf.TLSConfig = client.Dialer().DialContext, &tls.Config{InsecureSkipVerify: true}
	conn, err := pgx.ConnectConfig(context.Background(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var on bool
	if err := conn.QueryRow(context.Background(), query).Scan(&on); err != nil || !on {
		t.Errorf("pgx: %v, %v", on, err)
	}
	// Much data, and a cancel of an encrypted session, which this libpq and pgx send in the clear.
	var n int
	if err := conn.QueryRow(context.Background(), "SELECT length(repeat('x', 30000000))").Scan(&n); err != nil ||
		n != 30000000 {
		t.Errorf("%d, %v", n, err)
	}
	var text2 string
	if err := conn.QueryRow(context.Background(), "SELECT repeat('x', 30000000)").Scan(&text2); err != nil ||
		len(text2) != 30000000 {
		t.Errorf("%d bytes, %v", len(text2), err)
	}
	canceled := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SET application_name = 'encrypted'; SELECT pg_sleep(600)")
		canceled <- err
	}()
	w.sleeping("encrypted", 1)
	encryptedCancel(t, client, conn.PgConn())
	if err := <-canceled; err == nil || !strings.Contains(err.Error(), "57014") {
		t.Errorf("after an encrypted cancel request: %v", err)
	}
	cmd, result := w.psql(client, dsn, "SELECT pg_sleep(600)")
	w.sleeping("tls", 1)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	if got := <-result; !strings.Contains(got, "canceling statement due to user request") {
		t.Errorf("psql, interrupted: %s", got)
	}
	// And its loss.
	_, result = w.psql(client, dsn, "SELECT pg_sleep(600)")
	w.sleeping("tls", 1)
	mark := cm.Mark()
	cut := w.net.Isolate(client)
	cm.WaitLog(mark, lostBySilence, patience)
	if got := <-result; !strings.Contains(got, "connection to server was lost") &&
		!strings.Contains(got, "Connection reset by peer") {
		t.Errorf("psql, instance lost: %s", got)
	}
	cut.Heal()
}

// encryptedCancel sends a CancelRequest over TLS, as libpq 17 does. The relay cannot tell it from a
// new session.
func encryptedCancel(t *testing.T, from *testnet.Host, session *pgconn.PgConn) {
	t.Helper()
	nc, err := from.Dialer().Dial("tcp", fmt.Sprintf("127.0.0.1:%d", relayReadWrite))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	b := make([]byte, 1)
	if _, err := nc.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest
		t.Fatal(err)
	}
	if _, err := nc.Read(b); err != nil || b[0] != 'S' {
		t.Fatalf("the answer to SSLRequest: %q, %v", b, err)
	}
	encrypted := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	request := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 16, 4, 210, 22, 46}, session.PID())
	if _, err := encrypted.Write(append(request, session.SecretKey()...)); err != nil {
		t.Fatal(err)
	}
	encrypted.Read(b) // until the server has seen to it
}
