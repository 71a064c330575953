// Package livepg runs a throwaway primary and a throwaway standby for the tests of the adapters: loopback ports, TLS with a certificate for
// Name, user postgres without a password, user app with Password by SCRAM.
//
// Runs in the test's main goroutine; blocks on initdb and pg_ctl. As root, the servers run as nobody: PostgreSQL refuses root.
package livepg

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/pgwatchdog/watchdog/driver/internal/fakeconmgr"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// Name is the host name in the servers' certificate. It resolves nowhere: instances are connected to by address.
const Name = "db.livepg.test"

// Password is that of the user app.
const Password = "s3cr't"

// Pair is a primary and a standby, that are the same but for their role.
type Pair struct {
	Primary, Standby int    // ports on 127.0.0.1
	RootCert         string // the authority that signed the servers' certificate
	dir              string
}

// Start makes a pair. Stop it.
func Start() (*Pair, error) {
	dir, err := testkit.TempDir("livepg")
	if err != nil {
		return nil, err
	}
	p := &Pair{dir: dir, RootCert: filepath.Join(dir, "root.crt")}
	if err := p.start(); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (p *Pair) start() error {
	if os.Geteuid() == 0 {
		if err := os.Chown(p.dir, 65534, 65534); err != nil {
			return err
		}
	}
	if err := p.certificate(); err != nil {
		return err
	}
	first, second := filepath.Join(p.dir, "p"), filepath.Join(p.dir, "s")
	if err := p.run("initdb", "-D", first, "-U", "postgres", "-A", "trust", "-N", "--no-sync", "--locale=C", "-E", "UTF8"); err != nil {
		return err
	}
	conf := fmt.Sprintf("listen_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\nfsync = off\nshared_buffers = '16MB'\nmax_connections = 250\n"+
		"ssl = on\nssl_cert_file = '%s/server.crt'\nssl_key_file = '%s/server.key'\n", p.dir, p.dir, p.dir)
	hba := "local all postgres trust\nhost all postgres 127.0.0.1/32 trust\nhost all app 127.0.0.1/32 scram-sha-256\n"
	for name, text := range map[string]string{"postgresql.conf": conf, "pg_hba.conf": hba} {
		if err := os.WriteFile(filepath.Join(first, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	var err error
	if p.Primary, err = p.up(first); err != nil {
		return err
	}
	sql := "CREATE ROLE app LOGIN PASSWORD '" + "s3cr''t" + "'"
	if err := p.run("psql", "-qX", "-h", p.dir, "-p", strconv.Itoa(p.Primary), "-U", "postgres", "-c", sql); err != nil {
		return err
	}
	if err := p.run("pg_ctl", "stop", "-D", first, "-m", "fast", "-w"); err != nil {
		return err
	}
	// A clean copy that is told to be a standby is one at once; it needs no primary for that.
	if out, err := exec.Command("cp", "-a", first, second).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(second, "standby.signal"), nil, 0o644); err != nil {
		return err
	}
	if p.Standby, err = p.up(second); err != nil {
		return err
	}
	p.Primary, err = p.up(first)
	return err
}

// up starts a server on a port that was free a moment ago.
func (p *Pair) up(data string) (port int, err error) {
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port = l.Addr().(*net.TCPAddr).Port
		l.Close()
		if err = p.run("pg_ctl", "start", "-D", data, "-w", "-s", "-l", data+".log", "-o", "-p "+strconv.Itoa(port)); err == nil {
			return port, nil
		}
	}
	log, _ := os.ReadFile(data + ".log")
	return 0, fmt.Errorf("could not start a server: %v\n%s", err, log)
}

// Stop ends both and removes all.
func (p *Pair) Stop() {
	for _, data := range []string{"p", "s"} {
		p.run("pg_ctl", "stop", "-D", filepath.Join(p.dir, data), "-m", "immediate", "-w")
	}
	os.RemoveAll(p.dir)
}

// SocketDir has the servers' Unix sockets.
func (p *Pair) SocketDir() string { return p.dir }

// Instances are the pair as a conmgr knows them: 0 is the primary, 1 the standby.
func (p *Pair) Instances() []fakeconmgr.Instance {
	return []fakeconmgr.Instance{
		{Number: 0, Host: Name, HostAddr: "127.0.0.1", Port: p.Primary, Attributes: "primary,read-write"},
		{Number: 1, Host: Name, HostAddr: "127.0.0.1", Port: p.Standby, Attributes: "standby,read-only"},
	}
}

func (p *Pair) run(program string, args ...string) error {
	cmd := exec.Command(filepath.Join(bin(), program), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	// The postmaster inherits the output: a file, since a pipe would stay open.
	out, err := os.CreateTemp("", "livepg-out")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%s: %v: %s", program, err, text)
	}
	return nil
}

func bin() string {
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil && len(out) > 1 {
		if dir := string(out[:len(out)-1]); exists(filepath.Join(dir, "initdb")) {
			return dir
		}
	}
	return "/usr/lib/postgresql/15/bin"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// certificate makes a self-signed authority that is the server's certificate, too.
func (p *Pair) certificate() error {
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
		if err := os.WriteFile(filepath.Join(p.dir, name), text, 0o644); err != nil {
			return err
		}
	}
	path := filepath.Join(p.dir, "server.key")
	if err := os.WriteFile(path, private, 0o600); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		return os.Chown(path, 65534, 65534)
	}
	return nil
}
