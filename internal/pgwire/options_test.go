package pgwire

import "testing"

func TestCutOption(t *testing.T) {
	const name = "conmgr.target_wait"
	for _, c := range []struct {
		options, value string
		found          bool
		rest           string
	}{
		{"", "", false, ""},
		{" -c work_mem=1MB\\", "", false, " -c work_mem=1MB\\"},
		{"-c conmgr.target_wait=5s", "5s", true, ""},
		{"-cconmgr.target_wait=5s", "5s", true, ""},
		{"--conmgr.target_wait=5s", "5s", true, ""},
		{"--conmgr.target-wait=5s", "5s", true, ""},
		{"-c Conmgr.Target_Wait=500\\ ms", "500 ms", true, ""},
		{"-c work_mem=1MB   -c conmgr.target_wait=5s --geqo=off", "5s", true, "-c work_mem=1MB   --geqo=off"},
		{"-c conmgr.target_wait=5s -c conmgr.target_wait=7", "7", true, ""},
		{"-c conmgr.target_wait=5s -c search_path=a\\ b\\", "5s", true, "-c search_path=a\\ b\\"},
		{"-c conmgr.target_wait", "", true, ""},
		{"-c conmgr.target_wait=", "", true, ""},
		{"-c conmgr.target_waits=5s", "", false, "-c conmgr.target_waits=5s"},
		{"-c application_name=--conmgr.target_wait=5s", "", false, "-c application_name=--conmgr.target_wait=5s"},
		{"-c\tconmgr.target_wait=5s\n-c a=b", "5s", true, "-c a=b"},
		{"conmgr.target_wait=5s -c", "", false, "conmgr.target_wait=5s -c"},
	} {
		value, found, rest := CutOption(c.options, name)
		if value != c.value || found != c.found || rest != c.rest {
			t.Errorf("%q: got %q, %v, %q", c.options, value, found, rest)
		}
	}
}

func FuzzCutOption(f *testing.F) {
	f.Add("-c a.b=5s \\")
	f.Fuzz(func(t *testing.T, options string) {
		_, found, rest := CutOption(options, "a.b")
		if !found && rest != options {
			t.Errorf("%q became %q", options, rest)
		}
		if _, again, _ := CutOption(rest, "a.b"); again {
			t.Errorf("%q: what is left of it, %q, has the setting", options, rest)
		}
	})
}
