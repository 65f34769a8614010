package spec

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// MaxEvaluationBytes bounds what an evaluation point may write to $CYCLO_EVAL_RESULT.
const MaxEvaluationBytes = 1 << 20

const (
	fieldNext       = "next_tasks"
	fieldParameters = "parameters"
	fieldContext    = "context_updates"
	fieldMetadata   = "metadata"
	lineNext        = "CYCLO_NEXT"
)

var evaluationFields = []string{fieldNext, fieldParameters, fieldContext, fieldMetadata}

// ParseEvaluation reads the result of an evaluation point: a JSON object with the fields of workflow.Evaluation,
// or lines CYCLO_NEXT=a,b. It is nil where there is nothing. The error names the field, and shows no value.
func ParseEvaluation(written []byte) (*workflow.Evaluation, error) {
	written = bytes.TrimSpace(written)
	switch {
	case len(written) == 0:
		return nil, nil //nolint:nilnil // no result is no error
	case written[0] != '{':
		return parseNextLines(written)
	}
	object, err := decodeObject(written)
	if err != nil {
		return nil, err
	}
	evaluation := new(workflow.Evaluation)
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if err := readEvaluation(evaluation, name, object[name]); err != nil {
			return nil, err
		}
	}
	return evaluation, nil
}

func readEvaluation(evaluation *workflow.Evaluation, name string, content any) (err error) {
	switch name {
	case fieldNext:
		evaluation.Chosen = true
		evaluation.NextTasks, err = nextTasks(content)
	case fieldParameters:
		evaluation.Parameters, err = updatedValues(content)
	case fieldContext:
		evaluation.Variables, err = variablesOf(content)
	case fieldMetadata:
		if _, ok := content.(map[string]any); !ok {
			return fmt.Errorf("%s must be an object, not %s", name, kindOf(content))
		}
		evaluation.Metadata, err = dataValue(content)
	default:
		return fmt.Errorf("unknown field %s%s", quote(name), didYouMean(nearest.Names(name, slices.Values(evaluationFields))))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func nextTasks(content any) ([]string, error) {
	list, ok := content.([]any)
	if !ok {
		return nil, fmt.Errorf("it must be a list of task names, not %s", kindOf(content))
	}
	names := make([]string, 0, len(list))
	for i, item := range list {
		name, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("item %d must be the name of a task, not %s", i, kindOf(item))
		}
		var err error
		if names, err = appendNext(names, name); err != nil {
			return nil, fmt.Errorf("item %d %w", i, err)
		}
	}
	return distinct(names), nil
}

// distinct takes out the names that came before.
func distinct(names []string) []string {
	seen := make(map[string]bool, len(names))
	return slices.DeleteFunc(names, func(name string) bool {
		before := seen[name]
		seen[name] = true
		return before
	})
}

func appendNext(names []string, name string) ([]string, error) {
	switch {
	case name == "":
		return nil, errors.New("is empty")
	case len(name) > maxLabel:
		return nil, fmt.Errorf("has more than %d bytes", maxLabel)
	case checkDataText(name) != nil:
		return nil, errors.New("is no name of a task")
	}
	return append(names, name), nil
}

func updatedValues(content any) (map[string]map[string]workflow.Value, error) {
	tasks, ok := content.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it must be an object of tasks, not %s", kindOf(content))
	}
	updates := make(map[string]map[string]workflow.Value, len(tasks))
	for _, task := range slices.Sorted(maps.Keys(tasks)) {
		if _, err := appendNext(nil, task); err != nil {
			return nil, fmt.Errorf("the name of a task %w", err)
		}
		values, err := variablesOf(tasks[task])
		if err != nil {
			return nil, fmt.Errorf("task %s: %w", quote(task), err)
		}
		updates[task] = values
	}
	return orNil(updates), nil
}

func variablesOf(content any) (map[string]workflow.Value, error) {
	object, ok := content.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it must be an object of values, not %s", kindOf(content))
	}
	values := make(map[string]workflow.Value, len(object))
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !parameterName.MatchString(name) {
			return nil, fmt.Errorf("%s is no valid name: it takes letters, digits, _ . and -, and begins with a letter or _", quote(name))
		}
		value, err := dataValue(object[name])
		if err != nil {
			return nil, fmt.Errorf("the value of %s: %w", name, err)
		}
		values[name] = value
	}
	return orNil(values), nil
}

// kindOf describes decoded JSON without showing it.
func kindOf(content any) string {
	switch content.(type) {
	case nil:
		return "null"
	case string:
		return "text"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		return "a number"
	}
}

// parseNextLines reads lines CYCLO_NEXT=a,b. A line without a name chooses nothing; empty names are passed over.
func parseNextLines(written []byte) (*workflow.Evaluation, error) {
	var evaluation *workflow.Evaluation
	err := eachLine(written, func(number int, key, value string) error {
		if key != lineNext {
			return fmt.Errorf("line %d: unknown field %s: a result is a JSON object, or lines %s=a,b", number, quote(key), lineNext)
		}
		if evaluation == nil {
			evaluation = &workflow.Evaluation{Chosen: true, NextTasks: []string{}}
		}
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name == "" {
				continue // a shell's loop writes a comma after each
			}
			var err error
			if evaluation.NextTasks, err = appendNext(evaluation.NextTasks, name); err != nil {
				return fmt.Errorf("line %d: a name of %s %w", number, lineNext, err)
			}
		}
		return nil
	})
	if err != nil || evaluation == nil {
		return nil, err
	}
	evaluation.NextTasks = distinct(evaluation.NextTasks)
	return evaluation, nil
}
