package gitrepo

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// maxRef and maxPath bound a revision and a folder, in bytes.
const (
	maxRef  = 1000
	maxPath = 4096
)

var (
	commit = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)
	hexRef = regexp.MustCompile(`^[0-9a-f]{7,64}$`)
)

// IsCommit tells whether a revision is the whole name of a commit.
func IsCommit(ref string) bool { return commit.MatchString(ref) }

// MayBeCommit tells whether a revision may be the beginning of the name of a commit.
func MayBeCommit(ref string) bool { return hexRef.MatchString(ref) }

// CheckRef says why a text can't be a branch, a tag or a commit; see git-check-ref-format(1). An empty one is the remote's HEAD.
func CheckRef(ref string) error {
	bad := func(why string) error {
		return fmt.Errorf("%s is no branch, tag or commit: it %s", shown(ref), why)
	}
	switch {
	case ref == "":
		return nil
	case len(ref) > maxRef:
		return fmt.Errorf("it has more than %d bytes", maxRef)
	case strings.HasPrefix(ref, "-"):
		return bad("begins with a dash")
	case strings.ContainsFunc(ref, func(char rune) bool { return char <= ' ' || char == 0x7f }):
		return bad("holds a space or a control character")
	case strings.ContainsAny(ref, `~^:?*[\`) || strings.Contains(ref, "..") || strings.Contains(ref, "@{") || strings.Contains(ref, "${") || ref == "@":
		return bad("names a revision in another way; give the name of a branch, a tag or a commit alone")
	}
	for part := range strings.SplitSeq(ref, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") || strings.HasSuffix(part, ".") {
			return bad("is not the form of a name")
		}
	}
	return nil
}

// CheckPath says why a text can't be a folder in a repository. An empty one is the repository's root.
func CheckPath(text string) error {
	switch {
	case len(text) > maxPath:
		return fmt.Errorf("it has more than %d bytes", maxPath)
	case strings.ContainsFunc(text, control):
		return errors.New("it holds a control character")
	case strings.HasPrefix(text, "/"):
		return fmt.Errorf("%s is absolute: give a path in the repository", shown(text))
	}
	if clean := path.Clean("./" + text); clean == ".." || strings.HasPrefix(clean, "../") {
		return fmt.Errorf("%s leaves the repository", shown(text))
	}
	for part := range strings.SplitSeq(path.Clean("./"+text), "/") {
		if strings.EqualFold(part, ".git") {
			return fmt.Errorf("%s is not a folder of the repository's files", shown(text))
		}
	}
	return nil
}

// shown is a text as it stands in an error: whole or not at all, since a part of something sensitive would not be known as such.
func shown(text string) string {
	const most = 60
	if len(text) > most {
		return fmt.Sprintf("what was given (%d bytes)", len(text))
	}
	return fmt.Sprintf("%q", text)
}
