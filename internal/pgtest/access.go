package pgtest

import (
	"database/sql"

	"github.com/pgwatchdog/watchdog/internal/testnet"
)

// SourceRoot is the project's directory.
func SourceRoot() (string, error) { return sourceRoot() }

// Host is the host that the server runs in, nil on loopback.
func (c *Cluster) Host() *testnet.Host { return c.host }

// OpenAt is Open with a whole connection string.
func (c *Cluster) OpenAt(from *testnet.Host, dsn string) *sql.DB {
	c.t.Helper()
	return c.open(from, dsn)
}
