package spec

import (
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/nearest"
)

// field is one field of a definition: to teach the language a new one is to add
// an entry to a table.
type field[T any] struct {
	name string
	// about says in a sentence what the field is for.
	about string
	// form is what the field's value may look like.
	form Form
	// required tells that a definition is none without it.
	required bool
	// read puts the field's value into the definition.
	read func(v value, into *T)
	// give copies the field from one definition to another; only fields that an
	// entry of a DAG may override have it.
	give func(from, to *T)
}

// readFields reads a map by a table of fields. It returns the names of those
// that were given, in the table's order, and whether the value is a map at all.
func readFields[T any](v value, noun string, fields []field[T], into *T) (given []string, ok bool) {
	seen := make([]bool, len(fields))
	ok = v.entries(func(name string, key, item value) {
		i := slices.IndexFunc(fields, func(known field[T]) bool { return known.name == name })
		switch {
		case i < 0:
			near := nearest.Names(name, func(yield func(string) bool) {
				for _, known := range fields {
					if !yield(known.name) {
						return
					}
				}
			})
			article := "a"
			if strings.IndexByte("aeiou", noun[0]) >= 0 {
				article = "an"
			}
			key.problem("unknown field %s of %s %s%s", quote(name), article, noun, didYouMean(near))
		case !item.null():
			seen[i] = true
			fields[i].read(item, into)
		}
	})
	for i, known := range fields {
		if seen[i] {
			given = append(given, known.name)
		}
	}
	return given, ok
}
