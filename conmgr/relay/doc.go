// Package relay is conmgr's relay ports (docs/protocol.md 2.4): connections that are carried to an
// instance. It knows nothing of the console's sessions.
//
//	relay.go        a connection until its bytes flow
//	relayconnect.go its way to an instance, which it may have to wait for
//	relaywatch.go   clients that leave meanwhile
//	relaycancel.go  CancelRequests
//	relayloop.go    the bytes
//	crowd.go        how a loop is scheduled
//	relayhand.go    what goes on over a restart
package relay
