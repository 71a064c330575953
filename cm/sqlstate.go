package cm

// The SQLSTATEs of conmgr's errors. Append only: clients decide by them.

// SQLSTATEs, by PostgreSQL's names (its appendix of error codes).
const (
	CannotEstablish       = "08001" // sqlclient_unable_to_establish_sqlconnection: no target
	ProtocolViolation     = "08P01"
	FeatureNotSupported   = "0A000"
	InvalidParameterValue = "22023"
	ConfigFileError       = "F0000"
	InvalidStatementName  = "26000"
	InvalidCursorName     = "34000"
	InsufficientPrivilege = "42501"
	SyntaxError           = "42601"
	UndefinedObject       = "42704"
	DuplicateCursor       = "42P03"
	DuplicateStatement    = "42P05"
	TooManyConnections    = "53300"
	ProgramLimitExceeded  = "54000"
	AdminShutdown         = "57P01" // the instance is lost, or conmgr ends
	CannotConnectNow      = "57P03" // conmgr, or the instance, is shutting down or starting up
	IdleSessionTimeout    = "57P05"
	IOError               = "58030"
	InternalError         = "XX000"
)

// ShutdownText is what conmgr says to whom it leaves or turns away as it ends.
const ShutdownText = "the Connection Manager is shutting down"
