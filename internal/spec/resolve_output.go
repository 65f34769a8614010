package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// outputPrefix begins a reference to what another task gave: ${tasks.TASK.KEY} or ${tasks["TASK"].KEY}.
const outputPrefix = "tasks"

var errOutputForm = errors.New(`the output of a task is named as ${tasks.TASK.KEY}, or ${tasks["TASK"].KEY} where a name has dots`)

// outputPlace is one way to read a reference to an output: a task, and what of its output.
type outputPlace struct {
	task string
	keys []string // one in the other, or one with dots
}

// outputPlaces reads a reference to an output. Of several ways the one with the longest task comes first.
func outputPlaces(reference string) (places []outputPlace, err error) {
	rest := strings.TrimPrefix(reference, outputPrefix)
	if strings.HasPrefix(rest, "[") {
		task, rest, err := cutBracket(rest)
		if err != nil {
			return nil, err
		}
		keys, err := cutKeys(rest)
		if err != nil {
			return nil, err
		}
		return []outputPlace{{task, keys}}, nil
	}
	rest = rest[1:]
	end := len(rest)
	if bracket := strings.IndexByte(rest, '['); bracket >= 0 {
		end = bracket // what is in brackets is a key
		if keys, err := cutKeys(rest[bracket:]); err == nil && bracket > 0 {
			places = append(places, outputPlace{rest[:bracket], keys})
		}
	}
	for {
		end = strings.LastIndexByte(rest[:end], '.')
		if end <= 0 {
			break
		}
		keys, err := cutKeys(rest[end:])
		if err != nil {
			return nil, err
		}
		places = append(places, outputPlace{rest[:end], keys})
	}
	if len(places) == 0 {
		return nil, errOutputForm
	}
	return places, nil
}

// cutKeys reads .KEY.KEY or ["KEY"], at least one.
func cutKeys(text string) (keys []string, err error) {
	for text != "" {
		var key string
		switch text[0] {
		case '[':
			if key, text, err = cutBracket(text); err != nil {
				return nil, err
			}
		case '.':
			text = text[1:]
			end := strings.IndexAny(text, ".[")
			if end < 0 {
				end = len(text)
			}
			key, text = text[:end], text[end:]
		default:
			return nil, errOutputForm
		}
		if key == "" {
			return nil, errOutputForm
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errOutputForm
	}
	return keys, nil
}

// cutBracket reads ["NAME"].
func cutBracket(text string) (name, rest string, err error) {
	inside, rest, found := strings.Cut(text, `"]`)
	name, quoted := strings.CutPrefix(inside, `["`)
	if !found || !quoted || name == "" {
		return "", "", errOutputForm
	}
	return name, rest, nil
}

// tasks are the names that the task of a place may have: in the group of the task that refers to it first.
func (p *outputPlace) tasks(spec *workflow.TaskSpec) []string {
	if group := groupPrefix(spec); group != "" {
		return []string{group + p.task, p.task}
	}
	return []string{p.task}
}

// output gives what a reference to an output stands for.
func (s *scope) output(reference string) (workflow.Value, bool, error) {
	places, err := outputPlaces(reference)
	if err != nil {
		return null, false, err
	}
	if s.exists != nil {
		for i := range places {
			if slices.ContainsFunc(places[i].tasks(s.spec), s.exists) {
				return null, false, nil
			}
		}
		wanted := places[len(places)-1].task
		return null, false, fmt.Errorf("there is no task %q, neither in this run nor among the definitions%s", wanted, didYouMean(s.near(wanted)))
	}
	if err := s.ask(); err != nil {
		return null, false, err
	}
	for i := range places {
		for _, task := range places[i].tasks(s.spec) {
			output, ok := s.outputs[task]
			if ok && output == "" {
				return null, false, noOutput(task)
			}
			if ok {
				value, err := places[i].in(output)
				return value, true, err
			}
		}
	}
	return null, false, noOutput(places[0].task)
}

func noOutput(task string) error {
	return fmt.Errorf("task %q has given no output: it has not completed in this run, or wrote nothing to $CYCLO_OUTPUT", task)
}

// in finds the place in an output.
func (p *outputPlace) in(output workflow.Value) (workflow.Value, error) {
	var content map[string]workflow.Value
	missing := func() error {
		return fmt.Errorf("the output of task %q has no %q%s", p.task, strings.Join(p.keys, "."), hasInstead(content))
	}
	if json.Unmarshal([]byte(output), &content) != nil {
		return null, missing()
	}
	if value, ok := content[strings.Join(p.keys, ".")]; ok {
		return value, nil
	}
	inner := content
	for i, key := range p.keys {
		value, ok := inner[key]
		if !ok {
			return null, missing()
		}
		if i == len(p.keys)-1 {
			return value, nil
		}
		inner = nil
		if json.Unmarshal([]byte(value), &inner) != nil {
			return null, missing()
		}
	}
	return null, missing()
}

// hasInstead names what an output has.
func hasInstead(content map[string]workflow.Value) string {
	if len(content) == 0 {
		return ": it is empty"
	}
	return ": it has " + cut(strings.Join(slices.Sorted(maps.Keys(content)), ", "))
}

// ask gets all outputs that values of the task refer to, at once.
func (s *scope) ask() error {
	if s.asked {
		return nil
	}
	if s.lookups.Outputs == nil {
		return errNotHere
	}
	var tasks []string
	for _, b := range s.bindings {
		if b.state != resolved {
			tasks = s.appendTasks(tasks, b.value)
		}
	}
	slices.Sort(tasks)
	outputs, err := s.lookups.Outputs(slices.Compact(tasks))
	if err != nil {
		return err
	}
	s.outputs, s.asked = outputs, true
	return nil
}

// appendTasks adds the names of the tasks that the outputs in a value may be of.
func (s *scope) appendTasks(tasks []string, value workflow.Value) []string {
	if !strings.Contains(string(value), opening+outputPrefix) {
		return tasks
	}
	content, err := decodeValue(value)
	if err != nil {
		return tasks
	}
	eachText(content, func(text string) {
		for {
			_, reference, after, found, err := cutReference(text)
			if !found || err != nil {
				return
			}
			if strings.HasPrefix(reference, outputPrefix+".") || strings.HasPrefix(reference, outputPrefix+"[") {
				places, _ := outputPlaces(reference)
				for i := range places {
					tasks = append(tasks, places[i].tasks(s.spec)...)
				}
			}
			text = after
		}
	})
	return tasks
}

// eachText visits the texts in decoded JSON, keys too.
func eachText(content any, visit func(text string)) {
	switch content := content.(type) {
	case string:
		visit(content)
	case []any:
		for _, item := range content {
			eachText(item, visit)
		}
	case map[string]any:
		for key, item := range content {
			visit(key)
			eachText(item, visit)
		}
	}
}
