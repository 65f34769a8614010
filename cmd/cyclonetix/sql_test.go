package main

import "testing"

func TestPasswordsAreNoArguments(t *testing.T) {
	t.Parallel()
	for given, want := range map[string][2]string{
		"postgres://h/d":                                   {"postgres://h/d", ""},
		"postgres://me@h/d?application_name=a+b":           {"postgres://me@h/d?application_name=a+b", ""},
		"postgres://me:p%20w@h/d?sslmode=require":          {"postgres://me@h/d?sslmode=require", "p w"},
		"postgres://me@h/d?password=p%20w&sslmode=require": {"postgres://me@h/d?sslmode=require", "p w"},
		"postgres:///d?host=/tmp/a%20b&password=x":         {"postgres:///d?host=%2Ftmp%2Fa%20b", "x"},
		"postgres://me:one@h/d?password=two":               {"postgres://me@h/d", "two"},
	} {
		if shown, password := withoutPassword(given); shown != want[0] || password != want[1] {
			t.Errorf("%s is shown as %s, with the password %q", given, shown, password)
		}
	}
}
