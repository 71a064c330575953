package libpqtest

// Parameters of authentication and TLS that libpq gained since 16, by way of conmgr.

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scramKeys are what a client can log in with in place of the password: the keys that belong to what
// the server has stored of it.
func scramKeys(t *testing.T, stored, password string) (client, server string) {
	t.Helper()
	var iterations int
	var salt string
	_, rest, _ := strings.Cut(stored, "SCRAM-SHA-256$")
	if _, err := fmt.Sscanf(strings.NewReplacer(":", " ", "$", " ").Replace(rest), "%d %s", &iterations, &salt); err != nil {
		t.Fatalf("%s: %v", stored, err)
	}
	raw, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		t.Fatal(err)
	}
	salted, err := pbkdf2.Key(sha256.New, password, raw, iterations, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	key := func(name string) string {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(name))
		return base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	return key("Client Key"), key("Server Key")
}

// What a parameter lets through, and what it refuses, is decided at the instance, in libpq's words;
// conmgr, which asks for no password and has no TLS, is asked all the same.
func TestParametersHoldForTheInstance(t *testing.T) {
	s, dir := secureServer(t)
	cm := conmgrWith(t, at(0, "db.example", s.port, isPrimary))
	client, server := scramKeys(t, s.Value("select rolpassword from pg_authid where rolname = 'scram'"), "s3cret")
	log := filepath.Join(t.TempDir(), "keys")
	ca := " sslrootcert=" + dir + "/ca.crt"
	scram, cert := "user=scram password=s3cret sslmode=require ", "user=cert sslmode=verify-full sslkey="+dir+"/client.key"+ca+" "
	direct := serverVersion(t) >= 17 // takes TLS without being asked
	for _, x := range []struct {
		since     int
		parameter string
		more      string
		ok        bool
	}{
		{16, "require_auth=scram-sha-256", scram, true},
		{16, "require_auth=!password,!md5,!none", scram, true},
		{16, "require_auth=none", scram, false},
		{16, "require_auth=!scram-sha-256", scram, false},
		{16, "require_auth=password,md5", scram, false},
		{16, "sslcertmode=require", cert + "sslcert=" + dir + "/client.crt ", true},
		{16, "sslcertmode=disable", cert + "sslcert=" + dir + "/client.crt ", false},
		{16, "sslcertmode=require", scram + "sslcert=/nonexistent ", false},
		{16, "gssdelegation=1", scram, true},
		{17, "sslnegotiation=postgres", scram, true},
		{17, "sslnegotiation=direct", scram, direct},
		{17, "sslnegotiation=direct", "user=scram password=s3cret sslmode=prefer ", false},
		{18, "sslkeylogfile=" + log, scram, true},
		{18, "scram_client_key=" + client + " scram_server_key=" + server, "user=scram sslmode=require ", true},
		{18, "scram_client_key=" + server + " scram_server_key=" + client, "user=scram sslmode=require ", false},
	} {
		base := " dbname=postgres " + x.more
		by, plainly := "host=localhost port="+cm.Port()+base, "host=db.example hostaddr=127.0.0.1 port="+s.port+base
		if lacks(t, x.since, x.parameter, by) {
			continue
		}
		ask := []string{"-X", "-At", "-w", "-c", "select 1", "-d"}
		if !x.ok {
			want := failure(t, plain(), "psql", append(ask, plainly+x.parameter)...)
			got := failure(t, byPath(), "psql", append(ask, by+x.parameter)...)
			// where nothing is connected to, libpq does not name the instance
			if got != want {
				t.Errorf("%s\ngot:  %swant: %s", x.parameter, got, want)
			}
			continue
		}
		for _, conninfo := range []string{by, plainly} {
			if got := output(t, byPath(), "psql", append(ask, conninfo+x.parameter)...); got != "1\n" {
				t.Errorf("%s: %s", conninfo, got)
			}
		}
	}
	if libpqVersion(t) >= 18 {
		if text, err := os.ReadFile(log); err != nil || len(text) == 0 {
			t.Errorf("no keys were logged: %v", err)
		}
	}
}
