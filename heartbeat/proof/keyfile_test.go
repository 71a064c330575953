package proof

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

const secretA = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

func TestKeyFile(t *testing.T) {
	short := base64.StdEncoding.EncodeToString(make([]byte, 31))
	zeros := base64.StdEncoding.EncodeToString(make([]byte, 32))
	secretB := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("b", 32)))
	secretC := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("c", 32)))
	for _, c := range []struct {
		name, text, want string // want: "" or a part of the error
		n                int
	}{
		{"empty", "", "", 0},
		{"comments and blank lines", "# keys\n\n  \t\n", "", 0},
		{"one", "client1 " + secretA + "\n", "", 1},
		{"tabs, a comment, CRLF, no end of line", "a\t" + secretA + " 10.0.0.0/8 # x\r\nb " + secretB, "", 2},
		{"rotation", "a " + secretA + "\na " + secretB + "\n", "", 1},
		{"networks", "a " + secretA + " 192.0.2.0/24,2001:db8::/32,10.0.0.1,::ffff:10.0.0.0/104\n", "", 1},
		{"all characters", "aZ_9.-aZ_9.-aZ_9 " + secretA, "", 1},
		{"no secret", "client1\n", "f:1: a line is: keyid secret [network,...]; this one has 1 fields", 0},
		{"blanks in the list", "a " + secretA + " 10.0.0.0/8, 10.0.0.1", "this one has 4 fields", 0},
		{"second line", "# x\na b c d e", "f:2: ", 0},
		{"keyid too long", strings.Repeat("a", 17) + " " + secretA, "1 to 16 characters", 0},
		{"keyid with a slash", "a/b " + secretA, "this one has another one", 0},
		{"the other way round", secretA + " client1", "a keyid has 1 to 16 characters", 0},
		{"no base64", "a AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", `the secret of keyid "a" is not base64`, 0},
		{"31 bytes", "a " + short, `has 31 bytes, and not 32`, 0},
		{"zeros", "a " + zeros, "nothing but zeros", 0},
		{"secret after the networks", "a 10.0.0.0/8 " + secretA, "is not base64", 0},
		{"no network", "a " + secretA + " 10.0.0.0/8," + secretB, "network 2 of the list is none", 0},
		{"bits right of the mask", "a " + secretA + " 10.0.0.1/8", "10.0.0.0/8 is the network", 0},
		{"mapped, too wide", "a " + secretA + " ::ffff:10.0.0.0/95", "write it as IPv4", 0},
		{"a zone", "a " + secretA + " fe80::1%eth0", "network 1 of the list is none", 0},
		{"the same twice", "a " + secretA + "\na " + secretA, "f:2: keyid \"a\" stands here again with the same secret", 0},
		{"three times", "a " + secretA + "\na " + secretB + "\na " + secretC, "for the third time", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys, err := ParseFile("f", c.text)
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("got %v, want %s", err, c.want)
			}
			if keys.Len() != c.n {
				t.Errorf("%d keyids, want %d", keys.Len(), c.n)
			}
			for _, s := range []string{secretA, secretB, short, zeros} {
				if err != nil && strings.Contains(err.Error(), s[:16]) {
					t.Errorf("the error tells a secret: %v", err)
				}
			}
		})
	}
}

// TestSecretsDoNotPrint: whatever prints a key does not print its secret.
func TestSecretsDoNotPrint(t *testing.T) {
	keys, err := ParseFile("f", "a "+secretA)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.Only()
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if s := fmt.Sprintf(format, *k); strings.Contains(s, "1 2 3") || strings.Contains(s, "010203") ||
			strings.Contains(s, "0x1, 0x2") {
			t.Errorf("%s prints %s", format, s)
		}
	}
}

// TestLine: what is made for a key file is one.
func TestLine(t *testing.T) {
	id, err := ParseKeyID("db-client.7")
	if err != nil {
		t.Fatal(err)
	}
	secret := Secret(numbered(3))
	keys, err := ParseFile("f", Line(id, secret)+"\n")
	if err != nil {
		t.Fatal(err)
	}
	if k, err := keys.Only(); err != nil || k.ID != id || k.secret != secret || id.String() != "db-client.7" {
		t.Error(k, err)
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add("a " + secretA + " 10.0.0.0/8,::1\n# x\nb " + secretA)
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseFile("f", text)
		if err == nil {
			for _, k := range keys.all {
				first, end := keys.of(k.ID)
				if _, err := ParseKeyID(k.ID.String()); err != nil || end-first < 1 || end-first > perID {
					t.Fatal(k.ID, end-first, err)
				}
			}
		}
	})
}
