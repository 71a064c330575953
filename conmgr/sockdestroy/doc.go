// Package sockdestroy is destroy_sockets: the TCP connections of this network namespace to a lost
// instance are aborted in the kernel.
package sockdestroy
