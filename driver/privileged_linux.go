package driver

// Whether this process runs with somebody else's privileges. Run once, by whoever connects first;
// blocks on reading one file of /proc.

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"sync"
)

const atSecure = 23 // AT_SECURE of getauxval(3)

// privileged is what secure_getenv(3) goes by: set-user-ID, set-group-ID, and capabilities of the
// program's file.
var privileged = sync.OnceValue(func() bool {
	vector, err := os.ReadFile("/proc/self/auxv")
	if errors.Is(err, fs.ErrPermission) {
		return true // the kernel shuts it to just such a process
	}
	secure, found := auxiliary(vector, strconv.IntSize/8, atSecure)
	return found && secure != 0 || differs()
})

// auxiliary looks a value up among pairs of machine words.
func auxiliary(vector []byte, word int, key uint64) (value uint64, found bool) {
	get := func(b []byte) uint64 {
		if word == 4 {
			return uint64(binary.NativeEndian.Uint32(b))
		}
		return binary.NativeEndian.Uint64(b)
	}
	for ; len(vector) >= 2*word; vector = vector[2*word:] {
		if get(vector) == key {
			return get(vector[word:]), true
		}
	}
	return 0, false
}
