// cm_ctl starts, stops and looks at conmgr processes. Everything it does is in package control.
//
// The main goroutine runs the command; SIGINT interrupts it, other signals just end cm_ctl, as
// pg_ctl.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/pgwatchdog/watchdog/control"
	"github.com/pgwatchdog/watchdog/doctor/probe"
)

func main() { os.Exit(run()) }

func run() int {
	ctx := context.Background()
	if !signal.Ignored(os.Interrupt) { // it is in a shell script's background
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt)
		defer stop()
	}
	return control.Command{
		Args:   os.Args[1:],
		Getenv: os.Getenv,
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Euid:   os.Geteuid(),
		Doctor: probe.Run,
	}.Run(ctx)
}
