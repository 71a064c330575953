package probe

// cm_ctl doctor.

import (
	"context"
	"time"

	"github.com/pgwatchdog/watchdog/control"
	"github.com/pgwatchdog/watchdog/doctor"
)

// defaultLimit is of each question; they are asked at the same time.
const defaultLimit = 3 * time.Second

// Run examines, and returns what is to be shown: it is what control.Command calls.
func Run(ctx context.Context, r control.DoctorRequest) control.DoctorAnswer {
	limit := r.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	facts := Gather(ctx, Options{Dir: r.Dir, Limit: limit, Conninfo: r.Conninfo, SQL: given(r.Conninfo, r.Getenv), Getenv: r.Getenv})
	all := doctor.Check(facts)
	a := control.DoctorAnswer{Warnings: doctor.Worst(all) == doctor.Warning, Errors: doctor.Worst(all) == doctor.Error}
	if r.JSON {
		a.Text = string(doctor.JSON(facts, all))
		return a
	}
	a.Text = doctor.Text(all, r.Width, func(l doctor.Level, word string) string { return r.Paint(string(l), word) })
	return a
}
