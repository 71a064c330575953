// Package patroni tests conmgr beside a real Patroni cluster of three, in network namespaces: the
// agent killed, the leader cut off, the leader without its store, a switchover. Needs Debian's
// packages patroni and etcd-server, and minutes: `make test-patroni` runs it, `make test` does not.
package patroni
