package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// parse turns the text of a setting into a value of the key's type, and checks it. The texts of
// its errors go on "must …" or "names …"; they do not repeat the value.
func (k *key) parse(s string) (any, error) {
	switch k.kind {
	case number:
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, errors.New("must be an integer")
		}
		switch {
		case k.min != nil && k.max != nil && (n < *k.min || n > *k.max):
			return nil, fmt.Errorf("must be from %d to %d", *k.min, *k.max)
		case k.min != nil && n < *k.min:
			return nil, fmt.Errorf("must be at least %d", *k.min)
		}
		return n, nil
	case truth:
		switch strings.ToLower(s) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, errors.New("must be true or false")
	case list:
		return k.parseList(splitList(s))
	case text:
		return s, k.accept(s)
	default:
		return nil, errors.New("can only be set in the file")
	}
}

// parseList checks the entries of a list.
func (k *key) parseList(entries []string) ([]string, error) {
	for _, entry := range entries {
		if err := k.accept(entry); err != nil {
			if k.secret || len(entries) == 1 {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %s", err, quote(entry))
		}
	}
	return entries, nil
}

// accept checks a text, or an entry of a list. A text may be empty, unless a check objects.
func (k *key) accept(s string) error {
	if k.oneof != nil {
		if slices.Contains(k.oneof, s) {
			return nil
		}
		err := fmt.Errorf("must be one of %s", strings.Trim(strings.Join(k.oneof, ", "), ", "))
		if near := nearestOf(s, k.oneof); near != "" {
			err = fmt.Errorf("%w (did you mean %s?)", err, near)
		}
		return err
	}
	if k.check != nil {
		return k.check(s)
	}
	return nil
}

// splitList splits at commas; an empty text is an empty list.
func splitList(s string) []string {
	if strings.TrimSpace(s) == "" {
		return []string{}
	}
	entries := strings.Split(s, ",")
	for i := range entries {
		entries[i] = strings.TrimSpace(entries[i])
	}
	return entries
}

var (
	reference    = regexp.MustCompile(`\$?\$\{[^}]*\}?`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// expand replaces ${NAME} by what lookup returns. $${NAME} stands for a plain ${NAME}.
func expand(s string, lookup func(string) (string, bool)) (string, error) {
	var failed error
	out := reference.ReplaceAllStringFunc(s, func(found string) string {
		if strings.HasPrefix(found, "$$") {
			return found[1:]
		}
		name, closed := strings.CutSuffix(found[2:], "}")
		if !closed || !variableName.MatchString(name) {
			failed = errors.New("must have the name of a variable in ${…}; $${ stands for a plain ${")
			return ""
		}
		value, ok := lookup(name)
		if !ok && failed == nil {
			failed = fmt.Errorf("names the variable %s, which is not set in the environment", name)
		}
		return value
	})
	return out, failed
}

// quote shows a value in an error, shortened.
func quote(s string) string {
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:60]) + "…"
	}
	return strconv.Quote(s)
}
