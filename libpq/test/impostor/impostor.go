// Command impostor is what a local user may put in a Connection Manager's place: it listens, says
// that it is a Connection Manager, and answers SHOW TARGET with whatever it is told to. The tests
// of libpq/ run it under users of their choice. It prints "listening PORT", and each statement that
// it is asked.
//
// One goroutine per connection, each blocking on its socket alone; it ends with its standard input.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgproto3/v2"
)

var (
	network = flag.String("network", "tcp", "tcp or unix")
	address = flag.String("listen", "127.0.0.1:0", "where: an address, or the path of a socket")
	device  = flag.String("device", "", "a network interface to be bound to")
	mode    = flag.String("mode", "answer", "answer; or early: answer unasked and close, abort: the same with a reset, "+
		"deaf: never accept a connection, mute: accept and say nothing, error: refuse, saying that it is a Connection Manager, "+
		"babble: never end the startup, ramble: never end the answer")
	rows  = flag.Int("rows", 1, "how many rows the answer has")
	short = flag.Int("short", 0, "by how many bytes each row is too short")
	order = flag.String("columns", "instance,host,hostaddr,port,attributes", "its columns")
	host  = flag.String("host", "localhost", "the answer's host")
	addr  = flag.String("hostaddr", "127.0.0.1", "its hostaddr")
	port  = flag.String("port", "5432", "its port")
)

func main() {
	flag.Parse()
	l, err := listen()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	fmt.Println("listening", port)
	if *mode != "deaf" {
		go accept(l)
	}
	io.Copy(io.Discard, os.Stdin)
}

func listen() (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if *device == "" {
			return nil
		}
		if e := c.Control(func(fd uintptr) { err = syscall.BindToDevice(int(fd), *device) }); e != nil {
			return e
		}
		return err
	}}
	l, err := config.Listen(context.Background(), *network, *address)
	if err == nil && strings.HasPrefix(*address, "/") {
		err = os.Chmod(*address, 0o777) // as conmgr's, by default
	}
	return l, err
}

func accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

var ready = &pgproto3.ReadyForQuery{TxStatus: 'I'}

var noTarget = encode(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "08001", Message: "no target"}, ready)

func serve(c net.Conn) {
	defer c.Close()
	if *mode == "mute" {
		io.Copy(io.Discard, c)
		return
	}
	backend := pgproto3.NewBackend(pgproto3.NewChunkReader(c), c)
	for {
		message, err := backend.ReceiveStartupMessage()
		if err != nil {
			return
		}
		if _, ok := message.(*pgproto3.StartupMessage); ok {
			break
		}
		c.Write([]byte("N"))
	}
	welcome := encode(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"},
		&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
		&pgproto3.ParameterStatus{Name: "conmgr.version", Value: "1.0"},
		&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: 1}, ready)
	switch *mode {
	case "babble":
		babble(c)
		return
	case "early":
		c.Write(append(welcome, answer()...))
		return
	case "abort":
		c.Write(append(welcome, answer()...))
		if t, ok := c.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
		return
	}
	c.Write(welcome)
	for {
		message, err := backend.Receive()
		if err != nil {
			return
		}
		if q, ok := message.(*pgproto3.Query); ok {
			fmt.Printf("asked %s\n", q.String)
			if *mode == "ramble" {
				babble(c)
				return
			}
			if strings.Contains(q.String, "EXCEPT") {
				c.Write(noTarget)
			} else {
				c.Write(answer())
			}
		}
	}
}

func babble(w io.Writer) {
	words := encode(&pgproto3.ParameterStatus{Name: "word", Value: strings.Repeat("word ", 2000)})
	for {
		if _, err := w.Write(words); err != nil {
			return
		}
	}
}

func answer() []byte {
	if *mode == "error" {
		return noTarget
	}
	values := map[string]string{"instance": "0", "host": *host, "hostaddr": *addr, "port": *port,
		"attributes": "primary,read-write"}
	var fields []pgproto3.FieldDescription
	var row [][]byte
	for _, name := range strings.Split(*order, ",") {
		fields = append(fields, pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: 25, DataTypeSize: -1,
			TypeModifier: -1})
		row = append(row, []byte(values[name]))
	}
	out := encode(&pgproto3.RowDescription{Fields: fields})
	for range *rows {
		message := encode(&pgproto3.DataRow{Values: row})
		message = message[:len(message)-*short]
		binary.BigEndian.PutUint32(message[1:], uint32(len(message)-1))
		out = append(out, message...)
	}
	return append(out, encode(&pgproto3.CommandComplete{CommandTag: []byte("SHOW")}, ready)...)
}

func encode(messages ...pgproto3.BackendMessage) (out []byte) {
	for _, m := range messages {
		var err error
		if out, err = m.Encode(out); err != nil {
			panic(err) // a message of ours
		}
	}
	return out
}
