// Package bind knows which application connection is bound to which instance, and ends those whose
// instance is lost. The instances' goroutines post what they learn; the board's makes the routing
// table of it (package route decides), publishes it, and then tells whom it concerns.
//
//	table.go     the routing table: what instances tell, and route's verdicts
//	board.go     the board: from news to a table, and to the losses that it means
//	registry.go  who is connected, and bound to what; telling them
//	again.go     on_role_change, and RESUME
//	line.go      who waits for a target: the order, how many may go
//	waiting.go   waiting, and its end
//	share.go     who may connect: shares and reserved places
//	kept.go      what is known over restarts
//	forget.go    having it forgotten
//	drain.go     draining instances on this host, and telling of drains
//	trace.go     what is told of each connection
//
// Registry.mu is held for a moment only, and with no other lock.
package bind
