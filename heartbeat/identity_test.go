package heartbeat

import "testing"

// The ids of a process's instances are its own: they differ from each other and from those of
// another process, and stay.
func TestInstanceID(t *testing.T) {
	seen := map[ID]bool{}
	for _, process := range []ID{{}, {1}, {0, 1}} {
		for _, number := range []int{0, 1, 256, 9999} {
			id := InstanceID(process, number)
			if seen[id] || id == process || id == (ID{}) || id != InstanceID(process, number) {
				t.Errorf("id of instance %d of process %s: %s", number, process, id)
			}
			seen[id] = true
		}
	}
	// As docs/protocol.md 1.2 has it.
	if got := InstanceID(ID{}, 1).String(); got != "e9ff0e6e6de95da56ff09f4e3e0f481d" {
		t.Errorf("got %s", got)
	}
}

// A label is as docs/protocol.md 2.2 has it.
func TestLabel(t *testing.T) {
	for id, want := range map[ID]string{
		{}:                  "374708fff7719dd5979ec875d56cd228",
		InstanceID(ID{}, 1): "2bfcd14950a1ad37f058ab8884a8cd31",
	} {
		if got := LabelID(id).String(); got != want {
			t.Errorf("label of %s: %s", id, got)
		}
	}
}
