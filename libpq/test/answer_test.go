package libpqtest

// What the answer of a Connection Manager that is trusted must look like: all else is refused
// before anybody is connected to.

import (
	"strings"
	"testing"
)

func TestUnsoundAnswers(t *testing.T) {
	loot := newLoot(t)
	const family = "could not receive server address from Connection Manager: "
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-host", "/some/dir"}, `the answer's host "/some/dir" is the directory of a socket`},
		{[]string{"-host", "/x", "-hostaddr", ""}, `the answer's host "/x" is the directory of a socket`},
		{[]string{"-host", "@abstract"}, `the answer's host "@abstract" is the directory of a socket`},
		{[]string{"-host", ""}, "the answer's host is empty"},
		{[]string{"-host", "a,b", "-hostaddr", "127.0.0.1,127.0.0.1"}, `the answer's host "a,b" is a list`},
		{[]string{"-host", "a\nb"}, "the answer has a control character"},
		{[]string{"-host", "a\x7f"}, "the answer has a control character"},
		{[]string{"-host", "a", "-hostaddr", "127.0.0.1\n"}, "the answer has a control character"},
		{[]string{"-hostaddr", ""}, `the answer's hostaddr "" is not an IP address`},
		{[]string{"-hostaddr", "localhost"}, `the answer's hostaddr "localhost" is not an IP address`},
		{[]string{"-hostaddr", "127.1"}, `the answer's hostaddr "127.1" is not an IP address`},
		{[]string{"-hostaddr", "127.0.0.1,127.0.0.1"}, `the answer's hostaddr "127.0.0.1,127.0.0.1" is not an IP address`},
		{[]string{"-hostaddr", "::1%"}, `the answer's hostaddr "::1%" is not an IP address`},
		{[]string{"-hostaddr", "::1%lo,x"}, `the answer's hostaddr "::1%lo,x" is not an IP address`},
		{[]string{"-port", ""}, `the answer's port "" is not a port number`},
		{[]string{"-port", "0"}, `the answer's port "0" is not a port number`},
		{[]string{"-port", "65536"}, `the answer's port "65536" is not a port number`},
		{[]string{"-port", loot.port + "x"}, `is not a port number`},
		{[]string{"-port", "+" + loot.port}, `is not a port number`},
		{[]string{"-port", loot.port + "," + loot.port}, `is not a port number`},
		{[]string{"-rows", "2"}, "the answer has more than one row"},
		{[]string{"-columns", "attributes,instance,host,hostaddr,port", "-short", "5"},
			"the answer is not one of a Connection Manager"},
		{[]string{"-rows", "0"}, "the answer has no row"},
		{[]string{"-columns", "instance,host,hostaddr,port"}, "the answer is not one of a Connection Manager"},
		{[]string{"-columns", "host,hostaddr,port,attributes"}, "the answer is not one of a Connection Manager"},
		{[]string{"-columns", "instance,host,hostaddr,port,attributes,host"},
			"the answer is not one of a Connection Manager"},
		{[]string{"-client", "x"}, `the answer's client "x" is not a label`},
		{[]string{"-client", label + "0"}, `the answer's client "` + label + `0" is not a label`},
		{[]string{"-client", strings.ToUpper(label)}, "is not a label"},
		{[]string{"-client", label + " -c role=postgres"}, "is not a label"},
		{[]string{"-client", label[1:] + "\n"}, "the answer has a control character"},
		{[]string{"-columns", "instance,host,hostaddr,port,attributes,client,client"},
			"the answer is not one of a Connection Manager"},
	} {
		i := newImpostor(t, 0, append([]string{"-port", loot.port}, c.args...)...)
		for _, mode := range []string{"disable", "verify-full"} {
			refused(t, nil, secret(i.port, "sslmode="+mode), family, c.want)
		}
		i.stop()
	}
	loot.none(t)
}

// Whoever never comes to the end of what he says holds nobody, before he is believed and after.
func TestEndlessAnswers(t *testing.T) {
	i := newImpostor(t, daemon, "-mode", "babble")
	refused(t, nil, secret(i.port, "sslmode=require"), "server does not support SSL")
	i = newImpostor(t, 0, "-mode", "ramble")
	for _, mode := range []string{"disable", "require"} {
		refused(t, nil, secret(i.port, "sslmode="+mode), "the answer is not one of a Connection Manager")
	}
}

// What is quoted in a connection string stays a value: an answer's host has no way to become a
// parameter.
func TestAnswersAreQuoted(t *testing.T) {
	loot := newLoot(t)
	i := newImpostor(t, 0, "-port", loot.port, "-host", `x' sslmode=disable password='`)
	out := failure(t, byPath(), "psql", "-X", "-w", "-d", secret(i.port, "sslmode=require"), "-c", "select 1")
	wantAll(t, out, since14(t, "port "+loot.port+" failed: ")+"server does not support SSL")
	loot.mu.Lock()
	defer loot.mu.Unlock()
	if len(loot.heard) != 2 || len(loot.heard[1]) != 8 {
		t.Errorf("the thief got %q", loot.heard)
	}
}

// More columns than there are today, in another order, are a later version's.
func TestAnswersOfLaterVersions(t *testing.T) {
	i := newImpostor(t, 0, "-port", primary.port, "-columns", "more,port,hostaddr,attributes,host,instance")
	if ok, out := believed(t, nil, dsn(i.port, "")); !ok {
		t.Error(out)
	}
}

// All of it is stolen from whoever trusts everybody, and does not ask for TLS: the thief of these
// tests can hear.
func TestTheThiefCanHear(t *testing.T) {
	loot := newLoot(t)
	i := newImpostor(t, daemon, "-port", loot.port)
	failure(t, append(byPath(), "PGCMUSER=*"), "psql", "-X", "-w", "-d", secret(i.port, "sslmode=disable"), "-c",
		"select 1")
	wantAll(t, loot.all(), "s3cret")
}
