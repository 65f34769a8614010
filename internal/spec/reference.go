package spec

import "errors"

var errOpenReference = errors.New(`"${" begins a reference that has no "}"`)

// references counts the references ("${…}") in a text or in the JSON of a value. "$${" begins none: it is a
// literal "${". The error tells that one has no end.
func references(text string) (count int, err error) {
	for hasReference(text) {
		_, _, after, found, err := cutReference(text)
		if err != nil || !found {
			return count, err
		}
		count++
		text = after
	}
	return count, nil
}
