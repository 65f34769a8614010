package config

import (
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/nearest"
)

// longestWord bounds the work: what is longer was not meant for one of our names.
const longestWord = 100

// nearestOf returns the candidate most like the word, or "" when none is like it. Of paths with dots,
// the last name alone may be alike too: somebody who writes listen may mean server.listen.
func nearestOf(word string, candidates []string) string {
	word = strings.ToLower(strings.TrimPrefix(word, environmentPrefix))
	if len(word) > longestWord {
		return ""
	}
	best, bestDistance := "", (len(word)+1)/3+1
	for _, candidate := range candidates {
		if candidate == "" {
			continue
		}
		name := strings.ToLower(strings.TrimPrefix(candidate, environmentPrefix))
		distance := nearest.Distance(word, name, bestDistance)
		if last := lastName(name); last != name || lastName(word) != word {
			// One more, so that the same distance in full is nearer.
			distance = min(distance, nearest.Distance(lastName(word), last, bestDistance)+1)
		}
		if distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	return best
}

func lastName(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
