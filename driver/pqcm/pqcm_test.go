package pqcm_test

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/lib/pq"

	"github.com/pgwatchdog/watchdog/driver/internal/suite"
	"github.com/pgwatchdog/watchdog/driver/pqcm"
)

func TestDatabaseSQL(t *testing.T) {
	suite.Test(t, pair, suite.Adapter{
		Open: func(connString string, most int) (suite.Pool, error) {
			c, err := pqcm.NewConnector(connString)
			if err != nil {
				return nil, err
			}
			db := sql.OpenDB(c)
			db.SetMaxOpenConns(most)
			return suite.SQL(db), nil
		},
		SQLState: func(err error) string {
			var e *pq.Error
			if errors.As(err, &e) {
				return string(e.Code)
			}
			return ""
		},
		SSLModes: []string{"disable", "require"},
	})
}

// What lib/pq refuses by panic is an error.
func TestBadConnString(t *testing.T) {
	if _, err := pqcm.NewConnector("sslmode=disable client_encoding=latin1"); err == nil {
		t.Error("another client_encoding than UTF8 was accepted")
	}
	t.Setenv("PGSERVICE", "shop")
	if _, err := pqcm.NewConnector("sslmode=disable"); err == nil {
		t.Error("PGSERVICE, which lib/pq does not know, was accepted")
	}
}
