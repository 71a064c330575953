// Package livepg is a throwaway primary with its standby for the tests of the adapters: on
// loopback, with TLS by a certificate for Name, user postgres without a password, user app with
// Password by SCRAM. Beside them, a server that is in a smart shutdown.
//
// Runs in the test process's main goroutine; blocks until the servers run.
package livepg

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// Name is the host name in the servers' certificate. It resolves nowhere: instances are connected
// to by address.
const Name = "db.livepg.test"

// Password is that of the user app.
const Password = "s3cr't"

// Pair is a primary and its standby.
type Pair struct {
	Primary, Standby int    // ports on 127.0.0.1
	SocketDir        string // of the primary
	RootCert         string // the authority that signed the servers' certificate
	Closing          int    // port of a server of its own that refuses all logins (57P03), with TLS or without
}

// Start makes a pair, which ends with t.
func Start(t testkit.TB) *Pair {
	t.Helper()
	dir, err := testkit.TempDir("livepg")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := certificate(dir); err != nil {
		t.Fatalf("could not make a certificate: %v", err)
	}
	tls := []pgtest.Option{pgtest.Set("ssl", "on"), pgtest.Set("ssl_cert_file", filepath.Join(dir, "server.crt")),
		pgtest.Set("ssl_key_file", filepath.Join(dir, "server.key"))}
	primary := pgtest.New(t, append(tls, pgtest.Named("primary"), pgtest.Set("max_connections", "250"),
		pgtest.HBA("local all,replication all trust", "host all postgres 127.0.0.1/32 trust",
			"host all app 127.0.0.1/32 scram-sha-256",
			"host replication all 127.0.0.1/32 trust"))...)
	// 13 would make it md5.
	primary.Exec("SET password_encryption = 'scram-sha-256'; CREATE ROLE app LOGIN PASSWORD '" + strings.ReplaceAll(Password, "'", "''") + "'")
	standby := primary.Standby("standby")
	return &Pair{Primary: primary.Port, Standby: standby.Port, SocketDir: primary.SocketDir,
		RootCert: filepath.Join(dir, "root.crt"),
		Closing:  closing(t, tls).Port}
}

// closing is a server whose smart shutdown waits for a session.
func closing(t testkit.TB, options []pgtest.Option) *pgtest.Cluster {
	c := pgtest.New(t, append(options, pgtest.Named("closing"))...)
	admin := c.Admin()
	t.Cleanup(func() { admin.Close() })
	session, err := admin.Conn(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { session.Close() })
	if err := syscall.Kill(c.PostmasterPid(), syscall.SIGTERM); err != nil {
		t.Fatalf("%v", err)
	}
	testkit.Eventually(t, 10*time.Second, "the refusal of logins", func() (bool, string) {
		other := c.Admin()
		defer other.Close()
		err := other.Ping()
		return err != nil && strings.Contains(err.Error(), "the database system is shutting down"), fmt.Sprint(err)
	})
	return c
}

// Instances are the pair as a conmgr knows them: 0 is the primary, 1 the standby.
func (p *Pair) Instances() []scripted.Instance { return p.Numbered(0) }

// Numbered are the same, from another number on.
func (p *Pair) Numbered(n int) []scripted.Instance {
	return []scripted.Instance{
		{Number: n, Host: Name, HostAddr: "127.0.0.1", Port: p.Primary, Attributes: scripted.Primary},
		{Number: n + 1, Host: Name, HostAddr: "127.0.0.1", Port: p.Standby, Attributes: scripted.Standby},
	}
}

// certificate makes a self-signed authority that is the server's certificate, too.
func certificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: Name}, DNSNames: []string{Name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for name, text := range map[string][]byte{"root.crt": cert, "server.crt": cert} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	path := filepath.Join(dir, "server.key")
	if err := os.WriteFile(path, private, 0o600); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		return os.Chown(path, 65534, 65534)
	}
	return nil
}
