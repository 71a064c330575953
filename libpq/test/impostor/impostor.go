// Command impostor is what a local user may put in a Connection Manager's place (internal/cmtest/
// hostile): it answers SHOW TARGET with whatever it is told to. The tests of libpq/ run it under
// users of their choice. It prints "listening PORT", and each statement that it is asked.
//
// It ends with its standard input.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/pgwatchdog/watchdog/cm"
	"github.com/pgwatchdog/watchdog/internal/cmtest/hostile"
	"github.com/pgwatchdog/watchdog/internal/pgwire/backend"
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
	order = flag.String("columns", "instance,host,hostaddr,port,attributes,client", "its columns")
	host  = flag.String("host", "localhost", "the answer's host")
	addr  = flag.String("hostaddr", "127.0.0.1", "its hostaddr")
	port  = flag.String("port", "5432", "its port")
	label = flag.String("client", "", "its client")
	words = flag.String("announce", "", "its features")
)

var modes = map[string]hostile.Mode{"answer": hostile.Asked, "early": hostile.Early, "abort": hostile.Abort,
	"mute": hostile.Mute, "error": hostile.Error, "babble": hostile.Babble, "ramble": hostile.Ramble}

func main() {
	flag.Parse()
	l, err := listen()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, listening, _ := net.SplitHostPort(l.Addr().String())
	fmt.Println("listening", listening)
	if *mode != "deaf" {
		hostile.Serve(l, hostile.Script{Mode: modes[*mode], Copies: cmp.Or(*rows, -1), Short: *short,
			Columns: strings.Split(*order, ","),
			Rows: []hostile.Row{{Instance: "0", Host: *host, HostAddr: *addr, Port: *port, Attributes: "primary,read-write",
				Client: *label}},
			Announced: []backend.Parameter{{Name: cm.FeaturesParameter, Value: *words}},
			Heard:     func(statement string) { fmt.Printf("asked %s\n", statement) }})
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
