package cells

import (
	"slices"
	"strings"
	"testing"
)

func TestWidth(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "db0": 3, "café": 4, "cafe\u0301": 4, "東京": 4, "データ": 6, "서울": 4, "ｆｕｌｌ": 8, "ﾊﾝｶｸ": 4,
		"\u1112\u1161\u11ab": 2, "😀": 2, "ß–“": 3, "a⃝": 1,
	} {
		if got := Width(text); got != want {
			t.Errorf("%q: %d cells, want %d", text, got, want)
		}
	}
}

func TestFold(t *testing.T) {
	for _, c := range []struct {
		text          string
		first, others int
		want          []string
	}{
		{"", 5, 5, []string{""}},
		{"ab cd", 5, 5, []string{"ab cd"}},
		{"ab cde", 5, 5, []string{"ab", "cde"}},
		{"abcdefg", 3, 2, []string{"abc", "de", "fg"}},
		{"a bcdef", 5, 3, []string{"a", "bcd", "ef"}},
		{"東京 都", 4, 4, []string{"東京", "都"}},
		{"東京都", 5, 5, []string{"東京", "都"}},
		{"cafe\u0301s", 4, 4, []string{"cafe\u0301", "s"}},
		{"東京", 0, -1, []string{"東", "京"}},
	} {
		if got := Fold(c.text, c.first, c.others); !slices.Equal(got, c.want) {
			t.Errorf("%q in %d and %d: %q, want %q", c.text, c.first, c.others, got, c.want)
		}
	}
}

// Whatever the text is, no line is too wide, and nothing gets lost.
func FuzzFold(f *testing.F) {
	f.Add("a 東京 cafe\u0301s", uint8(5), uint8(3))
	f.Fuzz(func(t *testing.T, text string, first, others uint8) {
		text = Printable(text)
		lines, room := Fold(text, int(first), int(others)), max(int(first), 2)
		for _, line := range lines {
			if Width(line) > room {
				t.Errorf("%q in %d and %d: %q", text, first, others, lines)
			}
			room = max(int(others), 2)
		}
		squeezed := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if got := squeezed(strings.Join(lines, "")); got != squeezed(text) {
			t.Errorf("%q became %q", text, lines)
		}
	})
}

func TestPrintable(t *testing.T) {
	if got := Printable("a\x1b[31m\u202eb\n東\xff"); got != "a?[31m?b?東\ufffd" {
		t.Errorf("%q", got)
	}
}
