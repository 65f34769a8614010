package spec

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestCutReference(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		before, reference, after string
		found                    bool
	}{
		"plain":                {before: "plain"},
		"${A} ${B}":            {"", "A", " ${B}", true},
		"x $${A} ${B} y":       {"x ${A} ", "B", " y", true},
		"$${A} $${B}":          {before: "${A} ${B}"},
		"$$${A}":               {before: "$${A}"},
		"$${${A}":              {"${", "A", "", true},
		"$A $(b) $$ $$(c)":     {before: "$A $(b) $$ $$(c)"},
		"a${}b":                {"a", "", "b", true},
		`${tasks["a.b"].c}!`:   {"", `tasks["a.b"].c`, "!", true},
		"two $${ and one ${X}": {"two ${ and one ", "X", "", true},
	} {
		before, reference, after, found, err := cutReference(text)
		if before != want.before || reference != want.reference || after != want.after || found != want.found || err != nil {
			t.Errorf("%s: got %q, %q, %q, %v, %v", text, before, reference, after, found, err)
		}
	}
	if _, _, _, _, err := cutReference("$ { ${"); err == nil {
		t.Error("a reference without an end is none")
	}
}

// What was escaped stands for itself.
func TestEscape(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([$]|[{]|[}]|a|\$\{)*`).Draw(t, "text")
		before, _, _, found, err := cutReference(escape(text))
		if before != text || found || err != nil {
			t.Fatalf("%q became %q, %v, %v", text, before, found, err)
		}
	})
}

// runAt has the macros of a run.
func runAt(logical time.Time) *workflow.RunValues {
	at := time.Date(2024, 2, 29, 23, 4, 5, 678, time.FixedZone("", -3600))
	return &workflow.RunValues{Macros: &workflow.Macros{Time: at, LogicalDate: logical, Seed: "seed"}}
}

func TestMacros(t *testing.T) {
	t.Parallel()
	zurich := time.Date(2024, 3, 1, 6, 0, 0, 0, time.FixedZone("", 3600))
	lookups := Lookups{
		Run: func() (workflow.RunID, string) { return workflow.RunID{1}, "nightly" },
		Env: func(name string) (string, bool) { return "of " + name, name == "HOST" },
	}
	for text, want := range map[string]string{
		"${DATE}":                      "2024-03-01",
		"${TIME}":                      "00:04:05",
		"${DATETIME}":                  "2024-03-01T00:04:05Z",
		"${RUN_ID}":                    "nightly",
		"${LOGICAL_DATE}":              "2024-03-01T06:00:00+01:00",
		"a/${DATE}/${RUN_ID}$${DATE}":  "a/2024-03-01/nightly${DATE}",
		"${env:HOST}":                  "of HOST",
		"no macro: $DATE {DATE} $(ls)": "no macro: $DATE {DATE} $(ls)",
	} {
		got, _, err := Environment(&workflow.TaskSpec{Env: map[string]string{"K": text}}, runAt(zurich), lookups)
		if err != nil || strings.Join(got, " ") != "K="+want {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"${LOGICAL_DATE}":       "${LOGICAL_DATE} in the value of \"K\": the run has no logical date: scheduled and backfilled runs have one; give it to another run with --env LOGICAL_DATE=2026-01-31T00:00:00Z",
		"${RANDOM:0}":           "${RANDOM:0} in the value of \"K\": RANDOM takes a number of characters from 1 to 256",
		"${RANDOM:x}":           "${RANDOM:x} in the value of \"K\": RANDOM takes a number of characters from 1 to 256",
		"${env:NONE}":           "${env:NONE} in the value of \"K\": the agent has no environment variable NONE",
		"${env:A-B}":            "${env:A-B} in the value of \"K\": this is no name of an environment variable",
		"${env:CYCLO_SECRET_X}": "${env:CYCLO_SECRET_X} in the value of \"K\": secrets are named as ${secret:NAME}",
		"${secret:X}":           "${secret:X} in the value of \"K\": only the agent that runs the task can tell it",
		"${secret:a b}":         "${secret:a b} in the value of \"K\": a secret is named with 1 to 200 of the characters A-Z a-z 0-9 _ . -",
		"${DAT}":                `unknown ${DAT} in the value of "K": did you mean "DATE"?`,
		"${}":                   `unknown ${} in the value of "K": no value has this name; ${env:NAME} is the agent's own environment, $${ a literal ${`,
	} {
		_, _, err := Environment(&workflow.TaskSpec{Env: map[string]string{"K": text}}, runAt(time.Time{}), lookups)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// A task that was added to a run without macros has those that follow from the run's id.
func TestMacrosOfNone(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 2, 29, 1, 2, 3, 0, time.UTC)
	id := workflow.NewRunID(at, 1)
	lookups := Lookups{Run: func() (workflow.RunID, string) { return id, "x" }}
	task := &workflow.TaskSpec{Env: map[string]string{"K": "${DATETIME} ${RANDOM:8}"}}
	one, _, err := Environment(task, nil, lookups)
	if err != nil || !strings.HasPrefix(one[0], "K=2024-02-29T01:02:03Z ") {
		t.Fatal(one, err)
	}
	if other, _, _ := Environment(task, nil, lookups); other[0] != one[0] {
		t.Errorf("%q is not %q", other, one)
	}
}

func TestRandom(t *testing.T) {
	t.Parallel()
	get := func(spec *workflow.TaskSpec, seed string) string {
		values := &workflow.RunValues{Variables: given{"shared": `"${RANDOM:16}"`}, Macros: &workflow.Macros{Seed: seed}}
		got, _, err := Environment(spec, values, Lookups{})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(got, " ")
	}
	task := func(id string) *workflow.TaskSpec {
		return &workflow.TaskSpec{TaskID: id, Parameters: given{"OWN": `"${RANDOM:40} ${RANDOM:40}"`, "SAME": `"${OWN}"`}}
	}
	one, again, other, run := get(task("a"), "1"), get(task("a"), "1"), get(task("b"), "1"), get(task("a"), "2")
	form := regexp.MustCompile(`^OWN=([a-z0-9]{40}) ([a-z0-9]{40}) SAME=([a-z0-9]{40} [a-z0-9]{40}) SHARED=([a-z0-9]{16}) shared=([a-z0-9]{16})$`)
	parts, others, runs := form.FindStringSubmatch(one), form.FindStringSubmatch(other), form.FindStringSubmatch(run)
	switch {
	case parts == nil || others == nil || runs == nil:
		t.Fatal(one, other, run)
	case one != again:
		t.Errorf("%s is not %s", one, again)
	case parts[1] == parts[2] || parts[1]+" "+parts[2] != parts[3] || parts[4] != parts[5]:
		t.Error(one)
	case others[1] == parts[1] || others[4] != parts[4]:
		t.Error(one, other)
	case runs[1] == parts[1] || runs[4] == parts[4]:
		t.Error(one, run)
	}
}

func TestUsesMacros(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"": false, "DATE": false, "$${DATE}": false, "${DATE}": true, "${A} ${RANDOM:3}": true, "${LOGICAL_DATE}": true,
		"${RUN_ID}": false, "${env:DATE}": false, "${RANDOM": false,
	} {
		if usesMacros(text) != want {
			t.Errorf("%s: got %v", text, !want)
		}
	}
}
