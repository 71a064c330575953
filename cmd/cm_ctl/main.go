// cm_ctl starts, stops and looks at conmgr processes. Everything it does is in package control.
//
// The main goroutine runs the command; SIGINT, SIGTERM and SIGHUP interrupt it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/pgwatchdog/watchdog/control"
)

func main() { os.Exit(run()) }

func run() int {
	ctx := context.Background()
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup cm_ctl start
			var stop context.CancelFunc
			ctx, stop = signal.NotifyContext(ctx, s)
			defer stop()
		}
	}
	return control.Command{
		Args:   os.Args[1:],
		Getenv: os.Getenv,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Euid:   os.Geteuid(),
	}.Run(ctx)
}
