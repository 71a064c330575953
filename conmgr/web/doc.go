// Package web is what conmgr tells by HTTP, if http_port or a health_port is set: metrics, health
// checks as Patroni answers them, and a page that shows live what is there. Nothing can be changed by
// it: it reads snapshots, and its connections are bounded in number, size and time, so that whatever
// is asked costs the heartbeats nothing.
//
//	server.go   limits, and which path is whose
//	ports.go    ports, which stay open over a restart
//	conns.go    connections: a bounded number, and who makes room
//	health.go   which instance a health check asks about, and what is answered
//	status.go   /status: what is there, as JSON
//	stream.go   the same again and again, for the page: server-sent events
//	page/       the page: plain HTML, style and script, which are part of the program
package web
