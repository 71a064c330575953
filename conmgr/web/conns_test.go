package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// The one that has had nothing to do for longest goes; with work for all, the new one.
func TestConnsMakeRoom(t *testing.T) {
	var s conns
	begin := time.Now()
	all := make([]*conn, MostConnections)
	for i := range all {
		all[i] = &conn{since: begin.Add(time.Duration(i) * time.Second)}
		if closed := s.add(all[i]); closed != nil {
			t.Fatalf("%d: no room", i)
		}
	}
	end := s.works(all[0])
	late := func() *conn { return &conn{since: begin.Add(time.Hour)} }
	for i := 1; i < MostConnections; i++ {
		if closed := s.add(late()); closed != all[i] {
			t.Fatalf("%d: closed another one", i)
		}
	}
	for c := range s.all {
		s.works(c)
	}
	one := late()
	if closed := s.add(one); closed != one {
		t.Error("one that works was closed")
	}
	end()
	if closed := s.add(&conn{since: time.Now().Add(time.Hour)}); closed != all[0] {
		t.Error("one that has done its work was not closed")
	}
	if len(s.all) != MostConnections {
		t.Errorf("there are %d", len(s.all))
	}
}

// Of documents, which may be taken slowly, so many are served at a time.
func TestDocumentsAreBounded(t *testing.T) {
	var s Server
	inside, leave := make(chan bool), make(chan bool)
	serve := s.bounded(func(http.ResponseWriter, *http.Request) {
		inside <- true
		<-leave
	})
	for range mostDocuments {
		go serve(httptest.NewRecorder(), nil)
		<-inside
	}
	more := httptest.NewRecorder()
	if serve(more, nil); more.Code != http.StatusServiceUnavailable {
		t.Errorf("one more: %d", more.Code)
	}
	close(leave)
}
