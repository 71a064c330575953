package libpqtest

// The same programs under valgrind, and with a front that is built with the address and undefined
// behaviour sanitizers.

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is run under each: every family, events, losses, forks, asynchronous connecting; by way of
// conmgr and without.
func sanitized(t *testing.T, env []string, prefix ...string) {
	t.Helper()
	start := func(t *testing.T, name string, args ...string) *conversation {
		t.Helper()
		command := append(append(prefix[:len(prefix):len(prefix)], filepath.Join(bindir, name)), args...)
		return converse(t, env, command[0], command[1:]...)
	}
	for name, more := range map[string]string{"conmgr": "target_session_attrs=primary",
		"strict": "sslmode=prefer gssencmode=disable", "plain": ""} {
		t.Run("families/"+name, func(t *testing.T) {
			port := primary.port
			if name != "plain" {
				port = conmgr(t).Port()
			}
			wantAll(t, start(t, "families", dsn(port, more)).rest(), "port="+primary.port)
			start(t, "events", dsn(port, more)).rest()
			wantAll(t, start(t, "async", dsn(port, more)).rest(), "connected")
		})
	}
	t.Run("lists", func(t *testing.T) {
		empty := conmgrWith(t)
		list := "host=localhost,localhost,localhost user=postgres dbname=postgres port=" + empty.Port() + "," +
			freePort(t) + ","
		wantAll(t, start(t, "async", list+conmgr(t).Port()+" target_session_attrs=prefer-standby").rest(), "connected")
		wantAll(t, start(t, "async", list+primary.port+" sslmode=require").rest(), "failed")
		wantAll(t, start(t, "async", "nonsense").rest(), "failed")
		wantAll(t, start(t, "async", "host=a,b hostaddr=127.0.0.1").rest(), "failed")
	})
	for _, how := range []string{"exec", "cmsocket", "copyin", "idle"} {
		t.Run("loss/"+how, func(t *testing.T) {
			cm := conmgr(t)
			c := start(t, "waits", how, dsn(cm.Port(), "target_session_attrs=primary"))
			c.until("ready")
			cm.Lose(0)
			wantAll(t, c.rest(), "lost the server at", why)
		})
	}
	// not "use": its parent leaves by _exit(), with the thread, whose memory valgrind then counts
	// as possibly lost
	for _, how := range []string{"finish", "exit", "fresh"} {
		t.Run("fork/"+how, func(t *testing.T) {
			cm := conmgr(t)
			c := start(t, "forks", how, dsn(cm.Port(), "target_session_attrs=primary"))
			c.until("ready")
			cm.Lose(0)
			wantAll(t, c.rest(), "lost the server at")
		})
	}
	t.Run("trust", func(t *testing.T) {
		list := slices.Concat(env, []string{"PGCMUSER=nosuchuser, bin,2,"})
		foreign, unsound := newImpostor(t, daemon), newImpostor(t, 0, "-host", "/x")
		short := newImpostor(t, 0, "-columns", "attributes,instance,host,hostaddr,port", "-short", "5")
		for _, more := range []string{"", "sslmode=verify-full"} {
			for port, want := range map[string]string{foreign.port: nobodys,
				unsound.port: "is the directory of a socket", short.port: "the answer is not one of a Connection Manager"} {
				command := append(append(prefix[:len(prefix):len(prefix)], filepath.Join(bindir, "async")),
					dsn(port, more))
				wantAll(t, converse(t, list, command[0], command[1:]...).rest(), want)
			}
		}
		dir := socketDir(t)
		newImpostor(t, daemon, "-network", "unix", "-listen", dir+"/.s.PGSQL.1", "-port", primary.port)
		local := "user=postgres dbname=postgres port=1 host=" + dir
		wantAll(t, start(t, "async", local).rest(), nobodys)
		wantAll(t, start(t, "async", local+" requirepeer=daemon").rest(), "connected")
		wantAll(t, start(t, "async", local+" channel_binding=require requirepeer=daemon").rest(),
			"channel binding required")
	})
	t.Run("away", func(t *testing.T) {
		script := resumable("60000")
		m := hostileWith(t, script)
		c, many := start(t, "told", dsn(m.Port(), "")), start(t, "many", "20", dsn(m.Port(), ""))
		c.until("ready")
		many.until("ready")
		c.want("begin", "begun")
		m.Say(notice("draining"))
		c.want("until", "until 1", "draining", "draining 1")
		m.Close()
		m = m.back(t, script)
		m.waitAsked(t, resumed, 21)
		m.Say(notice("serving"), lossOf(0))
		c.want("until", "until 1", "consume", "consume 0")
		c.finish()
		wantAll(t, many.rest(), "lost 20")
		m.Set(script)
		c = start(t, "told", dsn(m.Port(), "options='-c conmgr.target_wait=1 -c work_mem=5MB'"))
		c.until("ready")
		m.Close()
		c.finish()
	})
	t.Run("threads", func(t *testing.T) {
		cm := conmgr(t)
		c := start(t, "many", "20", dsn(cm.Port(), "target_session_attrs=primary"))
		c.until("ready")
		cm.Lose(0)
		wantAll(t, c.rest(), "lost 20")
	})
}

func TestValgrind(t *testing.T) {
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		t.Fatal(err)
	}
	// what the C library keeps for a thread that a child of fork() does not have
	threads := write(t, "threads.supp", "{\n threads\n Memcheck:Leak\n match-leak-kinds: possible\n fun:calloc\n ...\n"+
		" fun:_dl_allocate_tls\n}\n")
	sanitized(t, byPath(), valgrind, "-q", "--error-exitcode=9", "--leak-check=full", "--suppressions="+threads,
		"--show-leak-kinds=definite,indirect,possible",
		"--errors-for-leak-kinds=definite,indirect,possible", "--track-fds=no", "--child-silent-after-fork=no")
}

func TestAddressSanitizer(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	if err := run(root, "make", "-s", "-f", "libpq/front.mk", "FRONT_OUT="+dir+"/connmgr", "FRONT_GEN="+dir+"/obj",
		"FRONT_DEFS=",
		"FRONT_SAN=-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer",
		dir+"/connmgr/libpq.so.5"); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("gcc", "-print-file-name=libasan.so").Output()
	if err != nil {
		t.Fatal(err)
	}
	// libcrypto and the like keep some memory to the end; valgrind looks for leaks
	sanitized(t, []string{"LD_LIBRARY_PATH=" + dir + "/connmgr", "LD_PRELOAD=" + strings.TrimSpace(string(out)),
		"ASAN_OPTIONS=detect_leaks=0",
		"UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1"})
}

// The watcher thread against the application's threads.
func TestThreadSanitizer(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	if err := run(root, "make", "-s", "-f", "libpq/front.mk", "FRONT_OUT="+dir+"/connmgr", "FRONT_GEN="+dir+"/obj",
		"FRONT_DEFS=",
		"FRONT_SAN=-fsanitize=thread", dir+"/connmgr/libpq.so.5"); err != nil {
		t.Fatal(err)
	}
	if err := run(root, "gcc", "-std=gnu11", "-g", "-fsanitize=thread", "-I/usr/include/postgresql", "-o", dir+"/many",
		"libpq/test/c/many.c", "-lpq", "-pthread"); err != nil {
		t.Fatal(err)
	}
	cm := conmgr(t)
	c := converse(t, []string{"LD_LIBRARY_PATH=" + dir + "/connmgr", "TSAN_OPTIONS=exitcode=9"}, dir+"/many", "50",
		// the Kerberos library is not instrumented, and trips over its own mutexes
		dsn(cm.Port(), "target_session_attrs=primary gssencmode=disable"))
	c.until("ready")
	cm.Lose(0)
	wantAll(t, c.rest(), "lost 50")

	m := hostileWith(t, resumable("60000"))
	c = converse(t, c.cmd.Env[3:], dir+"/many", "50", dsn(m.Port(), "gssencmode=disable"))
	c.until("ready")
	m.Say(notice("draining"))
	m.Close()
	m = m.back(t, resumable("60000"))
	m.waitAsked(t, resumed, 50)
	m.Say(lossOf(0))
	wantAll(t, c.rest(), "lost 50")
}
