package spec

import "github.com/cyclonetix/cyclonetix/internal/workflow"

// maxItems bounds the items of a for_each.
const maxItems = 100_000

// readForEach reads a list of items, or a text with a reference to one.
func readForEach(v value, t *taskDraft) {
	t.ForEach = new(workflow.ForEach)
	switch {
	case v.isList() && len(v.node.Content) > maxItems:
		v.problem("%s has more than %d items", v.what, maxItems)
	case v.isList():
		v.items(func(item value) {
			item.what = "an item of " + v.what
			t.ForEach.Items = append(t.ForEach.Items, item.json())
		})
	case v.isText():
		text, ok := v.text()
		if !ok {
			return
		}
		count, err := references(text)
		switch {
		case err != nil:
			v.problem("%s: %v", v.what, err)
		case count != 1:
			v.problem("%s must have one reference ${…} to a list, not %d", v.what, count)
			v.reader.hint("write the items as a list, or name one: ${tasks.TASK.KEY}")
		}
		if err == nil {
			v.checkText(text)
		}
		t.ForEach.Reference = text
	default:
		v.wrong("a list or a ${reference} to one")
	}
}
