package control

// Tests of conmgr.identity.

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pgwatchdog/watchdog/cm"
)

// TestIdentity: what was written is found again, in that directory and boot only.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	i, found, err := LoadIdentity(dir)
	if found || err != nil {
		t.Fatalf("nothing was written: %v, %v", found, err)
	}
	i.ID = [16]byte{1, 2, 3}
	if n := i.Entry(0, "db0", 5432); n != 0 {
		t.Errorf("entry %d", n)
	}
	i.Entries[i.Entry(12, "a b\"", 1)].Generation = 1 << 62
	if n := i.Entry(0, "db1", 5432); n != 2 || i.Entries[2].Number != 1 || i.Entry(7, "db0", 5432) != 0 {
		t.Errorf("%+v", i.Entries)
	}
	save := func() {
		t.Helper()
		if err := SaveIdentity(dir, i); err != nil {
			t.Fatal(err)
		}
	}
	save()
	path := filepath.Join(dir, cm.IdentityFile)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("its mode: %v, %v", st.Mode(), err)
	}
	got, found, err := LoadIdentity(dir)
	if !found || err != nil || !reflect.DeepEqual(got, i) {
		t.Errorf("%+v, %v, %v; want %+v", got, found, err, i)
	}
	copied := filepath.Join(dir, "copy")
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.Mkdir(copied, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(copied, cm.IdentityFile), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, found, err := LoadIdentity(copied); found || err != nil {
		t.Errorf("a copy is believed: %v, %v", found, err)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if _, found, err := LoadIdentity(moved); !found || err != nil {
		t.Errorf("a directory that was moved: %v, %v", found, err)
	}
	dir = moved
	i.Boot = "another"
	save()
	if _, found, err := LoadIdentity(dir); found || err != nil {
		t.Errorf("that of another boot is believed: %v, %v", found, err)
	}
}

// TestIdentityDamaged: it is told, and set aside.
func TestIdentityDamaged(t *testing.T) {
	dir := t.TempDir()
	i, _, _ := LoadIdentity(dir)
	i.ID[0] = 1
	path := filepath.Join(dir, cm.IdentityFile)
	whole := string(i.encode())
	for _, c := range []struct{ name, text, want string }{
		{"cut", whole[:len(whole)-2], "checksum"},
		{"a bit", strings.Replace(whole, "id = 01", "id = 03", 1), "checksum"},
		{"no id", string(withChecksum("version = 1\n")), "it has no id"},
		{"a short id", string(withChecksum("version = 1\nid = 0102\n")), `line 2: invalid id "0102"`},
		{"a later version", string(withChecksum("version = 2\n")), `line 1: version "2" is not one`},
		{"generation", string(withChecksum("instance = 1 1 -1 \"\"\n")), `line 1: invalid instance`},
		{"name", string(withChecksum("instance = 1 1 1 x\n")), `line 1: invalid instance`},
		{"no setting", string(withChecksum("id\n")), "line 1: not a setting"},
		{"too long", strings.Repeat("#\n", maxStateFile), "longer than"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, found, err := LoadIdentity(dir)
		var damaged *DamagedError
		if found || !errors.As(err, &damaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", c.name, found, err, c.want)
		}
	}
	aside, err := SetAside(dir, cm.IdentityFile)
	if err != nil || aside != path+".damaged" {
		t.Errorf("%q, %v", aside, err)
	}
	if _, found, err := LoadIdentity(dir); found || err != nil {
		t.Errorf("after that: %v, %v", found, err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, found, err := LoadIdentity(dir); found || err != nil {
		t.Errorf("an empty file: %v, %v", found, err)
	}
}
