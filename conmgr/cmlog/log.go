// Package cmlog is conmgr's log. Log may be called by any goroutine and never blocks: each
// destination has a bounded queue and one goroutine that writes it, so that a full pipe or a dead
// syslog cannot delay a heartbeat. What does not fit is counted and told.
//
//	log.go       messages, their levels and queues; standard error
//	loglimit.go  the limiter of lines that a peer can cause
//	syslog.go    syslog
package cmlog

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgwatchdog/watchdog/conmgr/group"
)

// Level of a message, in the order of log_min_messages in a PostgreSQL server.
type Level uint8

// The levels.
const (
	DEBUG Level = iota
	INFO
	NOTICE
	WARNING
	ERROR
	LOG
	FATAL
	PANIC
)

// LevelNames are the names of the levels, by Level.
var LevelNames = [...]string{"DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "LOG", "FATAL", "PANIC"}

// String is the name of the level.
func (l Level) String() string { return LevelNames[l] }

// Message is one event. Detail and Hint may be empty.
type Message struct {
	Level              Level
	Text, Detail, Hint string

	when time.Time
}

// Lines are those of the message, each with its level or its kind.
func (m *Message) Lines() (out []string) {
	out = append(out, m.Level.String()+":  "+m.Text)
	if m.Detail != "" {
		out = append(out, "DETAIL:  "+m.Detail)
	}
	if m.Hint != "" {
		out = append(out, "HINT:  "+m.Hint)
	}
	return out
}

// Sink writes messages to one destination. It is called by one goroutine, and may block.
type Sink interface{ Write(m *Message) }

type output struct {
	sink    Sink
	queue   chan *Message
	flush   chan chan struct{}
	dropped atomic.Int64
}

// Logger hands messages to its destinations. The zero value drops everything.
type Logger struct {
	min     atomic.Int32 // a Level
	outputs []*output
	now     func() time.Time
}

const logQueue = 1024

// New starts a goroutine for each sink in g. They end when stop is closed.
func New(min Level, g *group.Group, stop <-chan struct{}, sinks ...Sink) *Logger {
	l := &Logger{now: time.Now}
	l.SetLevel(min)
	for _, s := range sinks {
		o := &output{sink: s, queue: make(chan *Message, logQueue), flush: make(chan chan struct{})}
		l.outputs = append(l.outputs, o)
		g.Go("log writer", func() { o.run(stop) })
	}
	return l
}

// Log outputs a message without detail.
func (l *Logger) Log(level Level, format string, args ...any) {
	l.Message(Message{Level: level, Text: fmt.Sprintf(format, args...)})
}

// SetLevel has messages of at least that level be output from now on.
func (l *Logger) SetLevel(min Level) {
	if l != nil {
		l.min.Store(int32(min))
	}
}

// Wants tells whether messages of a level are output: what costs something to describe is described
// only then.
func (l *Logger) Wants(level Level) bool {
	return l != nil && level >= Level(l.min.Load()) && len(l.outputs) > 0
}

// Message outputs a message, if its level is high enough.
func (l *Logger) Message(m Message) {
	if l == nil || m.Level < Level(l.min.Load()) {
		return
	}
	if l.now != nil {
		m.when = l.now()
	}
	for _, o := range l.outputs {
		select {
		case o.queue <- &m:
		default:
			o.dropped.Add(1)
		}
	}
}

// Flush waits until what was logged before is written, at most for the given time.
func (l *Logger) Flush(most time.Duration) {
	limit := time.NewTimer(most)
	defer limit.Stop()
	for _, o := range l.outputs {
		done := make(chan struct{})
		select {
		case o.flush <- done:
			select {
			case <-done:
			case <-limit.C:
				return
			}
		case <-limit.C:
			return
		}
	}
}

func (o *output) run(stop <-chan struct{}) {
	for {
		select {
		case m := <-o.queue:
			o.write(m)
		case done := <-o.flush:
			o.drain()
			close(done)
		case <-stop:
			o.drain()
			return
		}
	}
}

func (o *output) drain() {
	for {
		select {
		case m := <-o.queue:
			o.write(m)
		default:
			return
		}
	}
}

func (o *output) write(m *Message) {
	o.sink.Write(m)
	if n := o.dropped.Swap(0); n > 0 {
		o.sink.Write(&Message{Level: WARNING, Text: fmt.Sprintf("%d messages were not logged: the log destination is too slow", n), when: m.when})
	}
}

// Stderr writes lines like a PostgreSQL server's.
type Stderr struct {
	w   io.Writer
	pid int
	buf bytes.Buffer
}

// NewStderr writes to w.
func NewStderr(w io.Writer) *Stderr { return &Stderr{w: w, pid: os.Getpid()} }

// Write is called by its log goroutine.
func (s *Stderr) Write(m *Message) {
	s.buf.Reset()
	stamp := m.when.Format("2006-01-02 15:04:05.000 MST")
	for _, t := range m.Lines() {
		// A message of several lines (a stack) keeps them, indented as the server does.
		fmt.Fprintf(&s.buf, "%s [%d] %s\n", stamp, s.pid, strings.ReplaceAll(t, "\n", "\n\t"))
	}
	s.w.Write(s.buf.Bytes()) // nobody is left to tell about an error
}
