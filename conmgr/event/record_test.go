package event

import "testing"

func TestName(t *testing.T) {
	for want, e := range map[string]Event{"lost": Lost{}, "attributes_changed": AttributesChanged{}, "http_open": HTTPOpen{},
		"pid_file_unwritten": PidFileUnwritten{}, "no_unix_socket": NoUnixSocket{}} {
		if got := Name(e); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
