// Package keyfile reads files of secrets, on both sides: they must be nobody else's to read, by the
// rules that PostgreSQL has for ssl_key_file. Any goroutine; blocks on the file system.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Read returns the text of a file of at most limit bytes. user is who may own it beside root, in
// words. The error names the file, what is wrong, and what is allowed.
func Read(path, user string, limit int64) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // does not wait for the writer of a FIFO
	if err != nil {
		return "", fmt.Errorf("could not open key file \"%s\": %w", path, cause(err))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("could not access key file \"%s\": %w", path, cause(err))
	}
	if !st.Mode().IsRegular() {
		return "", fmt.Errorf("key file \"%s\" is not a regular file", path)
	}
	if err := permissions(path, user, st); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", fmt.Errorf("could not read key file \"%s\": %w", path, cause(err))
	}
	if int64(len(b)) > limit {
		return "", fmt.Errorf("key file \"%s\" is larger than %d bytes", path, limit)
	}
	return string(b), nil
}

func permissions(path, user string, st os.FileInfo) error {
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("could not find out who owns key file \"%s\"", path)
	}
	mine, roots := int(owner.Uid) == os.Geteuid(), owner.Uid == 0
	if !mine && !roots {
		return fmt.Errorf("key file \"%s\" must be owned by %s or root", path, user)
	}
	others := os.FileMode(0o077)
	if roots && !mine {
		others = 0o037
	}
	if st.Mode().Perm()&others != 0 {
		return fmt.Errorf("key file \"%s\" has group or world access: it must have permissions u=rw (0600) or less if owned "+
			"by %s, or permissions u=rw,g=r (0640) or less if owned by root", path, user)
	}
	return nil
}

func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
