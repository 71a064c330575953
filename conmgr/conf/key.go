package conf

// The key of heartbeat_key_file, with which conmgr and the servers prove to each other who they
// are. Read at start, and again when a server does not know the key any more; blocks on the file.

import (
	"fmt"
	"slices"

	"github.com/pgwatchdog/watchdog/heartbeat/proof"
	"github.com/pgwatchdog/watchdog/internal/keyfile"
)

// KeyParam is the parameter that names the file.
const KeyParam = "heartbeat_key_file"

// ReadKey reads the key of a file, which has no other one.
func ReadKey(path string) (*proof.Key, error) {
	text, err := keyfile.Read(path, "the user who runs conmgr", proof.MaxFile)
	if err != nil {
		return nil, err
	}
	keys, err := proof.ParseFile(path, text)
	if err != nil {
		return nil, err
	}
	k, err := keys.Only()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// loadKey adds the key to a config.
func loadKey(c *Config, diags []Diagnostic) (*Config, []Diagnostic) {
	if c == nil || c.KeyFile == "" {
		return c, diags
	}
	var err error
	if c.Key, err = ReadKey(c.KeyFile); err != nil {
		i := slices.IndexFunc(c.Settings, func(s Setting) bool { return s.Name == KeyParam })
		return nil, append(diags, Diagnostic{File: c.Settings[i].Source, Text: KeyParam + ": " + err.Error(),
			Hint: "It holds the line that cm_ctl genkey has printed for this host."})
	}
	return c, diags
}
