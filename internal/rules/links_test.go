package rules

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// links are the symbolic links of a tree, without those of a build.
func links(root string) (all []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (rel == ".git" || slices.Contains([]string{"build", "tmp_check"}, d.Name())):
			return filepath.SkipDir
		case d.Type()&fs.ModeSymlink != 0:
			all = append(all, rel)
		}
		return nil
	})
	return all, err
}

// TestNoSymbolicLinks: a tree that is handed on as an archive or a patch loses them, and has their
// texts instead. What is needed at two places is copied by the build.
func TestNoSymbolicLinks(t *testing.T) {
	if all, err := links("../.."); err != nil || len(all) > 0 {
		t.Errorf("symbolic links: %s, %v", strings.Join(all, ", "), err)
	}
	dir := t.TempDir()
	if err := os.Symlink("rules", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if all, err := links(dir); err != nil || !slices.Equal(all, []string{"link"}) {
		t.Errorf("a link is not found: %v, %v", all, err)
	}
}
