package cm

// What conmgr announces of itself at a connection's startup, for how long clients wait: by
// ParameterStatus, in milliseconds as a plain number. Append only.

const (
	// TargetWaitParameter is how long a SHOW TARGET without WAIT waits on this connection: by the
	// startup's options, else by conmgr.conf.
	TargetWaitParameter = "conmgr.target_wait"
	// GraceParameter is how long conmgr may be away without that being a loss: a client that is
	// bound keeps its SQL connection meanwhile. 0, or not announced: a loss at once.
	GraceParameter = "conmgr.application_grace"
)
