package pgwire

// The startup's parameter "options": command line options of a server process. Pure.

import "strings"

// CutOption takes a setting out of options, in each way that PostgreSQL lets one write it:
// "-c name=value", "-cname=value" and "--name=value". The last one counts. The rest is as it was
// written.
func CutOption(options, name string) (value string, found bool, rest string) {
	var kept strings.Builder
	for text := options; text != ""; {
		word, raw, after := optionWord(text)
		setting, is := "", false
		switch {
		case word == "-c" && after != "":
			var next string
			setting, next, after = optionWord(after)
			raw, is = raw+next, true
		case strings.HasPrefix(word, "-c"), strings.HasPrefix(word, "--"):
			setting, is = word[2:], true
		}
		// A name without a value is an error of the server's; here it is an empty value.
		key, v, _ := strings.Cut(setting, "=")
		if is && strings.EqualFold(strings.ReplaceAll(key, "-", "_"), name) {
			value, found = v, true
		} else {
			kept.WriteString(raw)
		}
		text = after
	}
	if !found {
		return "", false, options
	}
	return value, true, strings.TrimLeft(kept.String(), optionSpace)
}

const optionSpace = " \t\n\v\f\r"

// optionWord takes a word off, as pg_split_opts does: a backslash takes its meaning from the
// character that follows it. raw is the word as it is written, with the space around it.
func optionWord(text string) (word, raw, after string) {
	var w strings.Builder
	i := len(text) - len(strings.TrimLeft(text, optionSpace))
	for ; i < len(text) && strings.IndexByte(optionSpace, text[i]) < 0; i++ {
		if text[i] == '\\' {
			if i++; i == len(text) {
				break
			}
		}
		w.WriteByte(text[i])
	}
	end := len(text) - len(strings.TrimLeft(text[i:], optionSpace))
	return w.String(), text[:end], text[end:]
}
