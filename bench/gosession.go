package main

// Applications in Go, in this process, whose sockets are inside a host.

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"net"

	"github.com/pgwatchdog/watchdog/internal/pgtest"
	"github.com/pgwatchdog/watchdog/internal/pgwire"
	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// connectIn connects from a host: connectors open their sockets on the calling goroutine.
func connectIn(h *testnet.Host, c driver.Connector) (conn driver.Conn, err error) {
	err = h.Do(func() error {
		var err error
		conn, err = c.Connect(context.Background())
		return err
	})
	return conn, err
}

func execute(conn driver.Conn, statement string) error {
	_, err := conn.(driver.ExecerContext).ExecContext(context.Background(), statement, nil)
	return err
}

// rawSession opens a session from a host, until the end of the scope, sends a query and reads
// nothing of the answer. It returns the backend's process id.
func (b *bench) rawSession(from *testnet.Host, c *pgtest.Cluster, query string) (pid int) {
	conn, err := from.Dialer().DialTimeout("tcp", fmt.Sprintf("%s:%d", c.Addr(), c.Port), patience)
	if err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() { conn.Close() })
	tcp := conn.(*net.TCPConn)
	_ = tcp.SetReadBuffer(4096) // a large answer is to be stuck early
	_ = tcp.SetLinger(0)
	fe := pgwire.NewFrontend(conn, conn, 1<<20, 0)
	err = fe.Startup(map[string]string{"user": "postgres", "database": "postgres"})
	for ready := false; err == nil && !ready; {
		var kind byte
		var body []byte
		kind, body, err = fe.Receive()
		switch {
		case kind == 'E':
			b.Fatalf("startup: %q", body)
		case kind == 'K' && len(body) >= 4: // BackendKeyData
			pid = int(binary.BigEndian.Uint32(body))
		case kind == 'Z': // ReadyForQuery
			ready = true
		}
	}
	if err == nil && query != "" {
		err = fe.Query(query)
	}
	if err != nil {
		b.Fatalf("session: %v", err)
	}
	return pid
}
