package cmlog

// The syslog destination: RFC 3164 datagrams to /dev/log. Run by its own log goroutine; a write
// waits for the syslog daemon at most for syslogPatience, and while there is none, messages are
// lost: that is said elsewhere, and they are counted.

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/netio"
	"github.com/pgwatchdog/watchdog/internal/rawsys"
)

// SyslogSocket is where a syslog daemon takes messages.
const SyslogSocket = "/dev/log"

// SyslogRetry is the time from a failed attempt to reach syslog to the next.
const SyslogRetry = time.Second

// syslogPatience is how long a message waits for a daemon that does not read; tests have their own.
var syslogPatience = 200 * time.Millisecond

const (
	syslogMaxLine  = 1000
	facilityLocal0 = 16
)

// Syslog is the destination.
type Syslog struct {
	path     string
	facility int // 0 to 7
	ident    string
	conn     *net.UnixConn
	stream   bool
	retryAt  time.Time
	lost     int             // messages since nobody took them
	complain func(err error) // says elsewhere that nobody takes messages; once, until somebody does again. May be nil
	silent   bool            // complain was called
}

func newSyslog(path string, facility int, ident string) *Syslog {
	return &Syslog{path: path, facility: facility, ident: ident}
}

// OpenSyslog says on stderr, at start and whenever it ceases, that there is no syslog. conmgr goes
// on without.
func OpenSyslog(path string, facility int, ident string, stderr io.Writer) *Syslog {
	s := newSyslog(path, facility, ident)
	s.complain = func(err error) {
		NewStderr(stderr).Write(&Message{Level: WARNING, when: time.Now(),
			Text: fmt.Sprintf("no syslog takes messages at \"%s\": %s", path, netio.Text(err)),
			Hint: "Messages to syslog are lost until one does. Start it, or set log_destination to stderr."})
	}
	s.dial()
	return s
}

// Close is called when the goroutine that writes has ended.
func (s *Syslog) Close() {
	if s.conn != nil {
		s.conn.Close()
	}
}

// severity maps levels as a PostgreSQL server does.
func severity(l Level) int {
	switch l {
	case DEBUG:
		return 7
	case INFO, LOG:
		return 6
	case NOTICE, WARNING:
		return 5
	case ERROR:
		return 4
	case FATAL:
		return 3
	}
	return 2
}

// Write is called by its log goroutine.
func (s *Syslog) Write(m *Message) {
	if s.lost > 0 && s.conn == nil && s.dial() {
		lost := &Message{Level: WARNING, Text: fmt.Sprintf("%d lines were not logged: syslog was not available",
			s.lost), when: m.when}
		s.lost = 0
		s.Write(lost)
	}
	for _, t := range m.Lines() {
		for _, part := range strings.Split(t, "\n") {
			if len(part) > syslogMaxLine {
				part = part[:syslogMaxLine]
			}
			s.send(fmt.Sprintf("<%d>%s %s[%d]: %s", (facilityLocal0+s.facility)<<3|severity(m.Level),
				m.when.Format(time.Stamp), s.ident, os.Getpid(), part))
		}
	}
}

// send tries twice: the daemon may have been restarted since the last message.
func (s *Syslog) send(packet string) {
	for try := 0; try < 2; try++ {
		if s.conn == nil && !s.dial() {
			s.lost++
			return
		}
		data := packet
		if s.stream {
			data += "\n"
		}
		err := rawsys.WriteWithin(s.conn, []byte(data), syslogPatience)
		if err == nil {
			return
		}
		s.conn.Close()
		s.conn = nil
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			s.retryAt = time.Now().Add(SyslogRetry) // it does not read
		}
	}
}

func (s *Syslog) dial() bool {
	if time.Now().Before(s.retryAt) {
		return false
	}
	var err error
	for _, network := range []string{"unixgram", "unix"} {
		var c *net.UnixConn
		if c, err = net.DialUnix(network, nil, &net.UnixAddr{Name: s.path, Net: network}); err == nil { // never waits
			s.conn, s.stream, s.silent = c, network == "unix", false
			return true
		}
	}
	s.retryAt = time.Now().Add(SyslogRetry)
	if s.complain != nil && !s.silent {
		s.silent = true
		s.complain(err)
	}
	return false
}
