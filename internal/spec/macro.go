package spec

import "strings"

// A literal "${" is written as "$${". The text of a value may be its JSON: there
// a "$" stands in strings only, and no escape hides one that we wrote.

// findMacro gives the beginning of the first macro in a text: from "${" to its
// "}", or to where a message should cut it.
func findMacro(text string) string {
	for {
		start := strings.Index(text, "${")
		if start < 0 {
			return ""
		}
		if start == 0 || text[start-1] != '$' {
			macro := text[start:]
			if end := strings.IndexByte(macro, '}'); end >= 0 {
				macro = macro[:end+1]
			}
			return macro
		}
		text = text[start+2:]
	}
}

// unescape resolves "$${" to "${".
func unescape(text string) string { return strings.ReplaceAll(text, "$${", "${") }
