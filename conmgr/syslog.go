package conmgr

// The syslog destination: RFC 3164 datagrams to /dev/log. Run by its own log goroutine; a write
// waits for the syslog daemon at most for syslogPatience, and while there is none, messages are
// lost: that is said elsewhere, and they are counted.

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

const (
	syslogSocket   = "/dev/log"
	syslogPatience = 200 * time.Millisecond
	syslogRetry    = time.Second
	syslogMaxLine  = 1000
	facilityLocal0 = 16
)

type syslogSink struct {
	path     string
	facility int // 0 to 7
	ident    string
	conn     net.Conn
	stream   bool
	retryAt  time.Time
	lost     int             // messages since nobody took them
	complain func(err error) // says elsewhere that nobody takes messages; once, until somebody does again. May be nil
	silent   bool            // complain was called
}

func newSyslogSink(path string, facility int, ident string) *syslogSink {
	return &syslogSink{path: path, facility: facility, ident: ident}
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

func (s *syslogSink) write(m *Message) {
	if s.lost > 0 && s.conn == nil && s.dial() {
		lost := &Message{Level: WARNING, Text: fmt.Sprintf("%d lines were not logged: syslog was not available",
			s.lost), when: m.when}
		s.lost = 0
		s.write(lost)
	}
	for _, t := range m.lines() {
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
func (s *syslogSink) send(packet string) {
	for try := 0; try < 2; try++ {
		if s.conn == nil && !s.dial() {
			s.lost++
			return
		}
		data := packet
		if s.stream {
			data += "\n"
		}
		s.conn.SetWriteDeadline(time.Now().Add(syslogPatience))
		_, err := s.conn.Write([]byte(data))
		if err == nil {
			return
		}
		s.conn.Close()
		s.conn = nil
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			s.retryAt = time.Now().Add(syslogRetry) // it does not read
		}
	}
}

func (s *syslogSink) dial() bool {
	if time.Now().Before(s.retryAt) {
		return false
	}
	var err error
	for _, network := range []string{"unixgram", "unix"} {
		var c net.Conn
		if c, err = net.DialTimeout(network, s.path, syslogPatience); err == nil {
			s.conn, s.stream, s.silent = c, network == "unix", false
			return true
		}
	}
	s.retryAt = time.Now().Add(syslogRetry)
	if s.complain != nil && !s.silent {
		s.silent = true
		s.complain(err)
	}
	return false
}
