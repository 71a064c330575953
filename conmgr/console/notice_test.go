package console

import "testing"

// While a session answers, its own goroutine sends what is noted, when it has answered: whoever tells
// does not come before the answer.
func TestNoticeAfterTheAnswer(t *testing.T) {
	s := &session{}
	s.busy()
	s.Note([]byte("first"))
	s.Note([]byte("last"))
	if s.news.due() || s.news.take(false) != nil {
		t.Error("it is sent before the answer")
	}
	if got := s.news.take(true); string(got) != "last" {
		t.Errorf("after the answer: %q", got)
	}
	s.Note([]byte("meanwhile")) // the session's goroutine is sending
	if s.news.due() {
		t.Error("two send")
	}
	if got := s.news.take(true); string(got) != "meanwhile" {
		t.Errorf("noted meanwhile: %q", got)
	}
	if got := s.news.take(true); got != nil {
		t.Errorf("twice: %q", got)
	}
	s.Note([]byte("idle"))
	if !s.news.due() || string(s.news.take(false)) != "idle" || s.news.due() {
		t.Error("whoever tells an idle session sends it")
	}
}
