// Package status is what others see of a conmgr process: systemd by sd_notify(3), and cm_ctl by the
// pid file. Each is a subscriber: Take, which whoever emits an event runs, only notes what is to be
// told; the main goroutine tells it, as that may block.
//
//	systemd.go  READY, STATUS, RELOADING, STOPPING and WATCHDOG
//	pidfile.go  the last two lines of the pid file
package status
