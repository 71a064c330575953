package cm

// Column names of the answers. Append only: clients find a column by its name.

// Columns of SHOW TARGET.
const (
	ColInstance   = "instance"
	ColHost       = "host"
	ColHostAddr   = "hostaddr"
	ColPort       = "port"
	ColAttributes = "attributes"
	ColClient     = "client"
	ColResume     = "resume" // what to RESUME by, after conmgr was away; at most MaxResume printable characters
)

// MaxResume is how long a value of ColResume may be.
const MaxResume = 255

// OldTargetColumns is how many of TargetColumns conmgr 1.0 answers: the others may be missing.
const OldTargetColumns = 5

// Columns of SHOW INSTANCES, beside ColInstance to ColPort.
const (
	ColWatchdogPort     = "watchdog_port"
	ColState            = "state"
	ColRole             = "role"
	ColReadOnly         = "read_only"
	ColTimeline         = "timeline"
	ColLastHeartbeat    = "last_heartbeat_ms"
	ColGeneration       = "generation"
	ColDetail           = "detail"
	ColUsedFor          = "used_for"
	ColNotUsed          = "not_used"
	ColLastRole         = "last_role"
	ColSystemIdentifier = "system_identifier"
	ColDraining         = "draining"
	ColBound            = "bound"
	ColLagBytes         = "lag_bytes"
	ColLagMs            = "lag_ms"
)

// By whom an instance is drained: the words of ColDraining, separated by commas.
const (
	DrainServer = "server" // by its server, for all
	DrainHere   = "here"   // for the applications of this conmgr
)

// Columns of SHOW APPLICATIONS, beside ColInstance.
const (
	ColClientAddr      = "client_addr"
	ColClientPort      = "client_port"
	ColApplicationName = "application_name"
	ColTarget          = "target"
	ColConnectedAt     = "connected_at"
	ColVia             = "via"
)

// EventColumns are those of SHOW EVENTS: the fields of an event, as event_command gets them.
var EventColumns = []string{"number", "time", "event", "level", ColInstance, ColHost, ColPort, "reason", "text", "detail",
	"hint", "repeated"}

// Columns of SHOW WAITING, beside those of SHOW APPLICATIONS.
const (
	ColWaitingSince = "waiting_since"
	ColWaitsUntil   = "waits_until"
)

// Columns of SHOW STATS, beside ColInstance.
const (
	ColStatistic = "statistic"
	ColCount     = "count"
)

// The columns of each answer, in order.
var (
	TargetColumns   = []string{ColInstance, ColHost, ColHostAddr, ColPort, ColAttributes, ColClient, ColResume}
	InstanceColumns = []string{ColInstance, ColHost, ColHostAddr, ColPort, ColWatchdogPort, ColState, ColRole, ColReadOnly,
		ColTimeline, ColLastHeartbeat, ColGeneration, ColDetail, ColUsedFor, ColNotUsed, ColLastRole, ColSystemIdentifier,
		ColDraining, ColBound, ColLagBytes, ColLagMs}
	ApplicationColumns = []string{ColClientAddr, ColClientPort, ColApplicationName, ColTarget, ColInstance, ColConnectedAt,
		ColVia}
	DrainColumns   = []string{ColInstance, ColDraining, ColBound} // of DRAIN and UNDRAIN
	StatsColumns   = []string{ColStatistic, ColInstance, ColCount}
	WaitingColumns = []string{ColClientAddr, ColClientPort, ColApplicationName, ColTarget, ColWaitingSince, ColWaitsUntil,
		ColVia}
)

// Effects of a changed parameter, in the answer to RELOAD.
const (
	EffectNow     = "now"
	EffectInPlace = "in place" // right after the answer: conmgr goes on in place, and applications are bound again
	EffectRestart = "restart"  // at a restart
)
