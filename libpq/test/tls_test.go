package libpqtest

// TLS and passwords hold for the instance, while conmgr speaks in the clear on loopback.

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/testkit"
)

// secureServer takes TLS only, and SCRAM passwords; the role cert takes a client certificate. Its
// keys are in dir.
func secureServer(t *testing.T) (s *server, dir string) {
	t.Helper()
	dir = filepath.Join(scratch, "tls") // the server must be able to read it
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	openssl := func(args ...string) {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	openssl("req", "-new", "-x509", "-nodes", "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key", "-out",
		"ca.crt")
	for name, subject := range map[string]string{"server": "/CN=db.example", "client": "/CN=cert"} {
		openssl("req", "-new", "-nodes", "-subj", subject, "-keyout", name+".key", "-out", name+".csr")
		openssl("x509", "-req", "-days", "2", "-in", name+".csr", "-CA", "ca.crt", "-CAkey", "ca.key",
			"-CAcreateserial", "-out", name+".crt")
	}
	openssl("rsa", "-aes256", "-passout", "pass:keypass", "-in", "client.key", "-out", "locked.key")
	files, _ := filepath.Glob(dir + "/*")
	for _, f := range files {
		mode := os.FileMode(0o600)
		if strings.HasSuffix(f, ".crt") {
			mode = 0o644
		}
		os.Chmod(f, mode)
	}
	if os.Geteuid() == 0 {
		os.Chown(filepath.Join(dir, "server.key"), 65534, 65534) // pgtest's servers run as nobody then
	}
	s = newServer(pgtest.New(t, pgtest.Named("secure"), pgtest.Set("ssl", "on"),
		pgtest.Set("ssl_cert_file", dir+"/server.crt"),
		pgtest.Set("ssl_key_file", dir+"/server.key"), pgtest.Set("ssl_ca_file", dir+"/ca.crt"),
		pgtest.Set("log_connections", "on"),
		pgtest.Set("password_encryption", "scram-sha-256"),
		pgtest.HBA("local all postgres trust", "hostssl all cert all cert", "hostssl all scram all scram-sha-256",
			"hostnossl all plain all trust")))
	s.Exec("create role scram login password 's3cret'")
	s.Exec("create role cert login")
	s.Exec("create role plain login")
	return s, dir
}

func TestTLSToTheInstance(t *testing.T) {
	s, dir := secureServer(t)
	cm := conmgrWith(t, at(0, "db.example", s.port, isPrimary))
	pass := write(t, "pass", "db.example:"+s.port+":postgres:scram:s3cret\n")
	ca := " sslrootcert=" + dir + "/ca.crt"
	base := "host=localhost dbname=postgres target_session_attrs=primary port=" + cm.Port()
	query := "select ssl, version ~ 'TLS' from pg_stat_ssl where pid = pg_backend_pid()"
	for name, conninfo := range map[string]string{
		"require":         base + " user=scram password=s3cret sslmode=require",
		"prefer":          base + " user=scram password=s3cret",
		"verify-full":     base + " user=scram password=s3cret sslmode=verify-full" + ca,
		"channel binding": base + " user=scram password=s3cret channel_binding=require sslmode=verify-full" + ca,
		"passfile":        base + " user=scram sslmode=verify-full passfile=" + pass + ca,
		"certificate": base + " user=cert sslmode=verify-full sslcert=" + dir + "/client.crt sslkey=" + dir +
			"/client.key" + ca,
		"locked key": base + " user=cert sslmode=verify-full sslpassword=keypass sslcert=" + dir +
			"/client.crt sslkey=" + dir + "/locked.key" + ca,
		"directly": "host=db.example hostaddr=127.0.0.1 dbname=postgres user=scram password=s3cret sslmode=verify-full port=" + s.port + ca,
		"directly, by localhost": "host=localhost dbname=postgres user=scram password=s3cret sslmode=require port=" +
			s.port,
	} {
		if got := strings.TrimSpace(output(t, byPath(), "psql", "-X", "-At", "-w", "-d", conninfo, "-c",
			query)); got != "t|t" {
			t.Errorf("%s: %s", name, got)
		}
	}
	told := cm.Startups()
	for _, a := range told {
		if a["application_name"] != "psql" || a["database"] != "postgres" || (a["user"] != "scram" && a["user"] != "cert") {
			t.Errorf("conmgr was told %+v", a)
		}
	}
	if len(told) == 0 {
		t.Error("conmgr was told nothing")
	}
	// every family, TLS to the instance, and stage one in the clear
	wantAll(t, output(t, byPath(), "families", base+" user=scram password=s3cret sslmode=verify-full"+ca),
		"host=db.example", "socket=yes")
	output(t, append(byPath(), "PGPASSWORD=s3cret"), "psql", "-X", "-w", "-d", base+" user=scram sslmode=require", "-c",
		"select 1")

	// It is asked whether it is a conmgr, but by no word in the clear after it has agreed to TLS.
	if said := regexp.MustCompile(`could not accept SSL connection: (.*)`).FindAllStringSubmatch(s.Log(),
		-1); slices.ContainsFunc(said,
		func(m []string) bool { // Success: the same, as 14.9 and others of that time have it
			return m[1] != "EOF detected" && m[1] != "unexpected eof while reading" && m[1] != "Success"
		}) {
		t.Errorf("the server heard something else than TLS: %v", said)
	}

	wrong := conmgrWith(t, at(0, "other.example", s.port, isPrimary))
	out := failure(t, byPath(), "psql", "-X", "-w", "-d",
		"host=localhost dbname=postgres user=scram password=s3cret sslmode=verify-full port="+wrong.Port()+ca, "-c",
		"select 1")
	wantAll(t, out, `does not match host name "other.example"`)
	out = failure(t, byPath(), "psql", "-X", "-w", "-d", base+" user=scram sslmode=require", "-c", "select 1")
	wantAll(t, out, "no password supplied")
	if asked := strings.Join(cm.Asked(), "\n"); strings.Contains(asked, "EXCEPT") {
		t.Errorf("the application was to ask its user, instead of conmgr for another instance:\n%s", asked)
	}

	// The password of a client's key by a hook of the program.
	for port, where := range map[string]string{cm.Port(): "by way of conmgr", s.port: "directly"} {
		locked := "host=localhost dbname=postgres user=cert sslmode=require sslcert=" + dir + "/client.crt sslkey=" +
			dir + "/locked.key port=" + port
		for _, c := range []struct{ password, more, want string }{
			{"keypass", "", "connected asked yes\nthen failed asked no"},
			{"wrong", "", "could not load private key file"},
			{"-", " sslpassword=keypass", "connected asked yes\nthen connected asked no"},
		} {
			for name, env := range map[string]func() []string{"front": byPath, "libpq": plain} {
				if name == "libpq" && port == cm.Port() {
					continue
				}
				if out := output(t, env(), "keypass", c.password, locked+c.more); !strings.Contains(out, c.want) {
					t.Errorf("%s, %s, password %q: %s", name, where, c.password, out)
				}
			}
		}
	}

	// A server on loopback that is asked whether it is a conmgr does not even log it as a failure.
	if log := s.Log(); strings.Contains(log, "no pg_hba.conf entry") {
		t.Errorf("the server has refused a connection in the clear:\n%s", log)
	}

	// With sslmode=prefer and a server that does not want TLS of this user, libpq comes again, by
	// another socket: that is the one to be shut down.
	c := converse(t, byPath(), "waits", "getresult", "host=localhost dbname=postgres user=plain port="+cm.Port())
	c.until("ready")
	testkit.Eventually(t, 10*time.Second, "the query runs", func() (bool, string) {
		return s.Value("select count(*) from pg_stat_activity where usename = 'plain' and wait_event = 'PgSleep'") == "1", ""
	})
	cm.Lose(0)
	wantAll(t, c.rest(), "PQgetResult: result PGRES_FATAL_ERROR", why)
}
