package main

import (
	"errors"
	"testing"
)

func TestPasswordsAreNoArguments(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]struct {
		shown string
		secrets
	}{
		"postgres://h/d":                                   {"postgres://h/d", secrets{}},
		"postgres://me@h/d?application_name=a+b":           {"postgres://me@h/d?application_name=a+b", secrets{}},
		"postgres://me:p%20w@h/d?sslmode=require":          {"postgres://me@h/d?sslmode=require", secrets{"p w", ""}},
		"postgres://me@h/d?password=p%20w&sslmode=require": {"postgres://me@h/d?sslmode=require", secrets{"p w", ""}},
		"postgres:///d?host=/tmp/a%20b&password=x":         {"postgres:///d?host=%2Ftmp%2Fa%20b", secrets{"x", ""}},
		"postgres://me:one@h/d?password=two":               {"postgres://me@h/d", secrets{"two", ""}},
		"postgres://me:one@h/d?sslpassword=two&sslkey=k":   {"postgres://me@h/d?service=cyclonetix&sslkey=k", secrets{"one", "two"}},
	} {
		if shown, hidden, err := withoutSecrets(given); err != nil || shown != want.shown || hidden != want.secrets {
			t.Errorf("%s is shown as %s, without %+v, %v", given, shown, hidden, err)
		}
	}
	if _, _, err := withoutSecrets("postgres://h/d?service=s&sslpassword=p"); !errors.Is(err, errServiceToo) {
		t.Errorf("of a service and an sslpassword: %v", err)
	}
}
