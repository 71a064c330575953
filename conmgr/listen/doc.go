// Package listen is where applications come in: ports and Unix sockets, and who is let in. What
// becomes of a connection is others' matter: package console's, or package relay's.
//
//	listen.go      ports, accepting
//	inherit.go     ports that stay open over a restart
//	unixsocket.go  Unix sockets and their lock files
//	admission.go   shares, refusals, the networks of relay ports
//	sockinfo.go    whose a connection is
package listen
