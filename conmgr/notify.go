package conmgr

// sd_notify(3): telling systemd what the service is doing. Run by the main goroutine; a datagram
// that cannot be sent at once is dropped.

import (
	"net"
	"os"
	"time"
)

// notifySystemd sends lines such as READY=1. Without NOTIFY_SOCKET, nobody listens.
func notifySystemd(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" || path[0] != '/' && path[0] != '@' {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	conn.Write([]byte(state))
}
