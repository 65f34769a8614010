package spec

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// A literal "${" is written as "$${". The text of a value may be its JSON: there
// a "$" stands in strings only, and no escape hides one that we wrote.

const opening = "${"

// hasReference tells quickly that there may be a reference in a text or in the JSON of a value. Escapes count.
func hasReference[T ~string](text T) bool { return strings.Contains(string(text), opening) }

// escape makes a text, or the JSON of a value, one that stands for itself.
func escape[T ~string](text T) T { return T(strings.ReplaceAll(string(text), opening, "$"+opening)) }

// cutReference splits a text at its first reference. The text before it is unescaped; the reference comes
// without its braces. Without one, before is all of the text.
func cutReference(text string) (before, reference, after string, found bool, err error) {
	var plain strings.Builder
	for {
		start := strings.Index(text, opening)
		switch {
		case start < 0:
			plain.WriteString(text)
			return plain.String(), "", "", false, nil
		case start > 0 && text[start-1] == '$':
			plain.WriteString(text[:start-1])
			plain.WriteString(opening)
			text = text[start+len(opening):]
			continue
		}
		plain.WriteString(text[:start])
		reference, after, found = strings.Cut(text[start+len(opening):], "}")
		if !found {
			return "", "", "", false, errOpenReference
		}
		return plain.String(), reference, after, true, nil
	}
}

// The names of macros that have no argument.
const (
	macroDate     = "DATE"
	macroTime     = "TIME"
	macroDateTime = "DATETIME"
	macroLogical  = "LOGICAL_DATE"
	macroRun      = "RUN_ID"
)

var macroNames = []string{macroDate, macroTime, macroDateTime, macroLogical, macroRun, nameItem, nameIndex}

var errNoLogicalDate = errors.New("the run has no logical date: scheduled and backfilled runs have one; give it to another run with --env LOGICAL_DATE=2026-01-31T00:00:00Z")

// timeMacro is what a macro that tells a time stands for; ok is false for other names.
func timeMacro(name string, at time.Time) (text string, ok bool) {
	switch at = at.UTC(); name {
	case macroDate:
		return at.Format(time.DateOnly), true
	case macroTime:
		return at.Format(time.TimeOnly), true
	case macroDateTime:
		return at.Format(time.RFC3339), true
	default:
		return "", false
	}
}

// maxRandom bounds the length of ${RANDOM:n}.
const maxRandom = 256

// randomLength reads the argument of ${RANDOM:n}.
func randomLength(argument string) (int, error) {
	length, err := strconv.Atoi(argument)
	if err != nil || length < 1 || length > maxRandom {
		return 0, fmt.Errorf("RANDOM takes a number of characters from 1 to %d", maxRandom)
	}
	return length, nil
}

// randomText is a text of lower-case letters and digits that follows from the seed and the place alone.
func randomText(seed, place string, length int) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	const fair = 256 - 256%len(alphabet) // bytes from here on would favour some characters
	text := make([]byte, 0, length)
	input := binary.BigEndian.AppendUint64(nil, uint64(len(seed)))
	input = append(append(input, seed...), place...)
	for block := uint32(0); ; block++ {
		digest := sha256.Sum256(binary.BigEndian.AppendUint32(slices.Clip(input), block))
		for _, b := range digest {
			if len(text) == length {
				return string(text)
			}
			if int(b) < fair {
				text = append(text, alphabet[int(b)%len(alphabet)])
			}
		}
	}
}

// usesMacros tells whether a text, or the JSON of a value, has a macro that needs workflow.Macros.
func usesMacros[T ~string](value T) bool {
	if !hasReference(value) {
		return false
	}
	for text := string(value); ; {
		_, reference, after, found, err := cutReference(text)
		if !found || err != nil {
			return false
		}
		_, timed := timeMacro(reference, time.Time{})
		if timed || reference == macroLogical || strings.HasPrefix(reference, "RANDOM:") {
			return true
		}
		text = after
	}
}

// anyUses tells whether anything of the plan or of the values needs workflow.Macros.
func anyUses(plan *workflow.Plan, values *workflow.RunValues) bool {
	if anyValue(values.Variables, usesMacros) || anyValue(values.Env, usesMacros) {
		return true
	}
	for _, given := range []map[string]map[string]workflow.Value{values.Parameters, values.Sensitive} {
		for _, parameters := range given {
			if anyValue(parameters, usesMacros) {
				return true
			}
		}
	}
	for _, spec := range plan.Specs {
		if specAny(spec, usesMacros, usesMacros) {
			return true
		}
	}
	return false
}

func anyValue[V ~string](values map[string]V, holds func(V) bool) bool {
	for _, value := range values {
		if holds(value) {
			return true
		}
	}
	return false
}

// specAny tells whether any value of the specification holds.
func specAny(spec *workflow.TaskSpec, value func(workflow.Value) bool, text func(string) bool) bool {
	if anyValue(spec.Variables, value) || anyValue(spec.Parameters, value) || anyValue(spec.Env, text) || spec.Item != nil && value(spec.Item.Value) {
		return true
	}
	if spec.Git != nil && slices.ContainsFunc([]string{spec.Git.Repository, spec.Git.Ref, spec.Git.Path}, text) {
		return true
	}
	if spec.ForEach == nil {
		return false
	}
	if slices.ContainsFunc(spec.ForEach.Items, value) {
		return true
	}
	return text(spec.ForEach.Reference)
}
