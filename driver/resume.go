package driver

// A conmgr that is away and will be back, by a restart or an upgrade, or by a crash that somebody
// mends: the SQL connections live on meanwhile, and the watch asks the conmgr that comes next to be
// bound to the very same instance. Runs in the watch's goroutine; blocks on the network, and in
// pauses, until the grace is over, or Close.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/pgwatchdog/watchdog/cm"
)

// The pauses between two attempts to be bound again, doubled from the first to the last. Each is
// shortened at random, as all applications of the host try at the same time.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = time.Second
)

// isBroken tells a connection that has ended from one that has talked nonsense.
func isBroken(err error) bool {
	var network net.Error
	return errors.Is(err, errClosed) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
}

// absence is for how long conmgr may be away; granted is 0: not at all.
type absence struct {
	granted time.Duration
	until   time.Time
}

func absenceFrom(now time.Time, granted time.Duration) absence {
	return absence{granted, now.Add(granted)}
}

// resumable is the absence, if conmgr knows how to be resumed.
func (w *Watch) resumable(away absence) absence {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.peer.features[cm.FeatureResume] || w.target.resume == "" {
		return absence{}
	}
	return away
}

var errNoTime = errors.New("there was no time to look for it")

// resume returns the loss, if conmgr, or the instance, does not come back.
func (w *Watch) resume(away absence, gone *LostError) *LostError {
	w.setAway(max(time.Until(away.until), time.Millisecond))
	defer w.setAway(0)
	ctx, cancel := context.WithDeadline(w.ctx, away.until)
	defer cancel()
	why := errNoTime
	for pause := firstRetry; pausing(ctx, pause/2+rand.N(pause/2)); pause = min(2*pause, lastRetry) {
		err := w.askAgain(ctx)
		if err == nil {
			return nil
		}
		if lost := w.verdict(err); lost != nil {
			return lost
		}
		if why == errNoTime || ctx.Err() == nil { // that time is over says less than what came before
			why = err
		}
	}
	gone.Since = time.Now()
	gone.Reason += fmt.Sprintf(", and was not back within %v: %v", away.granted, why)
	return gone
}

func (w *Watch) setAway(grace time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awayFor = grace
	for b := range w.bound {
		if b.away != nil {
			b.away(grace)
		}
	}
}

// pausing is false when the context ends first.
func pausing(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

var errForgets = errors.New("the Connection Manager that is there now does not know how to be resumed")

// askAgain finds conmgr within ctx, and waits for its answer as long as it takes: it has until then
// to hear of the instance itself, and tells if it does not.
func (w *Watch) askAgain(ctx context.Context) error {
	p, err := w.asker.open(ctx)
	if err != nil {
		return err
	}
	if !p.features[cm.FeatureResume] {
		p.conn.Close()
		return errForgets
	}
	w.mu.Lock()
	was := w.target
	w.mu.Unlock()
	target, err := p.put(w.ctx, &question{attribute: w.attribute, resume: was.resume})
	if err != nil {
		return err
	}
	if target.HostAddr != was.HostAddr || target.Port != was.Port {
		p.conn.Close()
		return fmt.Errorf("the Connection Manager was asked for %s, and named %s", was.Address(), target.Address())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		p.conn.Close()
		return context.Canceled
	}
	w.peer, w.target = p, *target
	return nil
}

// verdict is the loss that an answer means; nil: try again. Somebody else at conmgr's address, or
// one that is full, or just starts or ends, has nothing to say of the instance.
func (w *Watch) verdict(err error) *LostError {
	var answer *ConmgrError
	switch {
	case errors.Is(err, errForgets):
		e := w.newError("08006")
		e.Reason = err.Error()
		return e
	case !errors.As(err, &answer), strings.HasPrefix(answer.Message, ownEnd), Elsewhere(answer.SQLState) &&
		answer.SQLState != cm.AdminShutdown:
		return nil
	}
	return w.told(answer)
}
