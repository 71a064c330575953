// Package route decides which instance is offered for which attribute, and which one has been
// superseded. It is pure: what is known of the instances and what was kept from before go in, a
// table comes out. conmgr's board calls it from one goroutine; tables are immutable, and read by
// any.
//
//	route.go   instances, and what is known of the set
//	known.go   how that grows, and is forgotten
//	table.go   the table: a verdict on each instance
//	choose.go  the choice among those that are used; reasons, for people
//	drain.go   draining
//	resume.go  whether a client that was bound before may be bound again
package route
