// Package backend is the server's side of PostgreSQL's protocol 3.0 and 3.2, as far as a Connection
// Manager speaks it: the startup of a client, its messages, bounded before anything is allocated,
// and what is answered. It is the only package that uses pgproto3, whose decoders are never given
// more than a bounded message, and whose panics end here.
//
//	startup.go   what a client says first, and the greeting
//	reader.go    its messages after that
//	messages.go  messages by their names, errors, encoding
package backend
