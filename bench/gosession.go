package main

// Applications in Go, in this process, whose sockets are inside a host.

import (
	"context"
	"database/sql/driver"

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
