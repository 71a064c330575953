module github.com/pgwatchdog/watchdog

go 1.24.0

require (
	github.com/jackc/chunkreader/v2 v2.0.0 // indirect
	github.com/jackc/pgio v1.0.0 // indirect
	github.com/jackc/pgproto3/v2 v2.3.3 // indirect
	github.com/lib/pq v1.10.9 // indirect
	golang.org/x/sys v0.38.0 // indirect
)
