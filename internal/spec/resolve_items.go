package spec

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// maxResolvedItems bounds the items that a reference gives.
const maxResolvedItems = 10_000

// Items gives the items of a task with for_each, in the form that workflow.Item takes: as text of a
// definition, in which "${" begins a reference. Those of a list are as they were written; those that a reference gives are
// data, and stand for themselves. Lookups need neither Env nor Secret: an item is stored and shown, so nothing
// that only an agent knows, or that is sensitive, can make one.
//
// The error says that there is no list, or that it has more than 10,000 items.
func Items(spec *workflow.TaskSpec, values *workflow.RunValues, lookups Lookups) ([]workflow.Value, error) {
	switch {
	case spec.ForEach == nil:
		return nil, fmt.Errorf("task %q has no for_each", spec.TaskID)
	case spec.ForEach.Reference == "":
		return spec.ForEach.Items, nil
	}
	lookups.Env, lookups.Secret = nil, nil
	s := newScope(spec, values, lookups)
	b := s.bindItems()
	if err := s.resolve(b); err != nil {
		return nil, err
	}
	switch {
	case b.tainted:
		return nil, errors.New("for_each takes a sensitive value: items are stored and shown")
	case b.later:
		return nil, errors.New("for_each refers to the item itself")
	}
	return s.items(b)
}

const forEachName = "for_each"

// bindItems is the reference of for_each as a value, which no other can refer to.
func (s *scope) bindItems() *binding {
	delete(s.bindings, nameItem)
	delete(s.bindings, nameIndex)
	b := &binding{name: forEachName, layer: itemValues, value: workflow.StringValue(s.spec.ForEach.Reference)}
	s.bindings["\x00"+forEachName] = b
	return b
}

// items are those of the resolved reference of for_each, which is not sensitive.
func (s *scope) items(b *binding) ([]workflow.Value, error) {
	items, err := itemsOf(b.value)
	if errors.Is(err, errNoList) {
		return nil, fmt.Errorf("for_each: %s %w: it is %s", cut(s.spec.ForEach.Reference), err, shorten(string(b.value)))
	}
	return items, err
}

var errNoList = errors.New("is not a list")

// shorten gives the beginning of JSON.
func shorten(text string) string {
	if text == "" {
		return "empty"
	}
	return cut(text)
}

func itemsOf(value workflow.Value) ([]workflow.Value, error) {
	content, err := decodeValue(value)
	if text, ok := content.(string); ok && err == nil { // an output of KEY=VALUE lines has texts alone
		content, err = decodeValue(workflow.Value(text))
	}
	list, ok := content.([]any)
	switch {
	case err != nil || !ok:
		return nil, errNoList
	case len(list) > maxResolvedItems:
		return nil, fmt.Errorf("for_each: the list has %d items, more than %d", len(list), maxResolvedItems)
	}
	items := make([]workflow.Value, len(list))
	for i := range list {
		text, err := json.Marshal(list[i])
		if err != nil {
			return nil, fmt.Errorf("for_each: item %d cannot be written as JSON", i)
		}
		items[i] = escape(workflow.Value(text))
	}
	return items, nil
}
