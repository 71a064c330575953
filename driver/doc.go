// Package driver is the Go client of the Connection Manager: it asks a conmgr which instance has
// the attribute that the application wants (target_session_attrs), connects to that instance, and
// ends that connection at once when conmgr declares the instance lost.
//
// Applications use an adapter, and change one line:
//
//	connector, err := pqcm.NewConnector("host=localhost port=27546 target_session_attrs=read-write dbname=app")
//	db := sql.OpenDB(connector)                       // lib/pq, database/sql
//
//	config, err := pgxcm.ParsePoolConfig("host=localhost port=27546 target_session_attrs=read-write dbname=app")
//	pool, err := pgxpool.NewWithConfig(ctx, config)   // pgx, pgxpool
//
// This package is what both stand on, and is enough for an adapter to another driver:
// [ParseConfig], [Dialer.Walk], [Conn].
//
// # Loss
//
// When the instance is lost, a blocked query returns at once, with an error in which errors.As
// finds a [*LostError]: which instance, why, since when, and whether it is safe to retry.
//
// # Drains and restarts
//
// A drain of the instance is no loss: [Watch.Draining] is closed, and pools retire their connections
// between transactions ([Conn.Pool]). Nor is a conmgr that is away and announced a grace for that:
// the connection lives on, and is bound to the same instance again when conmgr is back.
//
// The files:
//
//	connstring.go  which hosts, which attribute; everything else is left to the real driver
//	ask.go         the conversation with a conmgr: startup, SHOW TARGET
//	watch.go       a conmgr connection that is bound to an instance: the loss of that instance
//	resume.go      a conmgr that was away: bound to the same instance again
//	conn.go        an SQL connection that ends with its watch
//	retire.go      connections that a pool keeps, when their instance is drained
//	dial.go        the walk through the hosts of a connection string, and waiting for an instance
//	errors.go      the errors
package driver
