package heartbeat

// The ids by which one conmgr process is known: one for each instance that it monitors, so that two
// entries that lead to one server are two peers there, and do not throw each other out; and the
// labels by which sessions are known to belong to one. Pure.

import (
	"crypto/sha256"
	"encoding/binary"
)

// InstanceID derives the id for an instance's number from the id of the process.
func InstanceID(process ID, number int) (id ID) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(process[:len(process):len(process)], uint32(number)))
	copy(id[:], sum[:])
	return id
}

// LabelID is what sessions carry that the conmgr of an id has led to a server: a hash, as the id
// itself is a secret between the two ends of the heartbeats.
func LabelID(id ID) (label ID) {
	sum := sha256.Sum256(id[:])
	copy(label[:], sum[:])
	return label
}
