package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"
)

// colour is an ANSI sequence for the look of a text.
type colour string

// The looks of texts. States have a word as well, so a colour never says anything alone.
const (
	plain  colour = ""
	dim    colour = "\x1b[2m"
	bold   colour = "\x1b[1m"
	red    colour = "\x1b[31m"
	green  colour = "\x1b[32m"
	yellow colour = "\x1b[33m"
	blue   colour = "\x1b[34m"
	reset         = "\x1b[0m"
)

// fallbackWidth and fallbackHeight are the size of a terminal that does not tell it.
const fallbackWidth, fallbackHeight = 80, 24

// isTerminal tells whether a person reads what is written to w.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb" //nolint:gosec // a file descriptor
}

// size is the width and height of the terminal behind w.
func size(w io.Writer) (width, height int) {
	if file, ok := w.(*os.File); ok {
		if width, height, err := term.GetSize(int(file.Fd())); err == nil && width > 0 && height > 0 { //nolint:gosec // a file descriptor
			return width, height
		}
	}
	return fallbackWidth, fallbackHeight
}

// paint gives text a look, where w is a terminal and nobody asked for none (NO_COLOR).
func (p *program) paint(w io.Writer, look colour, text string) string {
	if look == plain || os.Getenv("NO_COLOR") != "" || !isTerminal(w) {
		return text
	}
	return string(look) + text + reset
}

// clip shortens text to a number of columns, with an ellipsis where something is missing. Control
// characters, which could garble the screen, become spaces.
func clip(text string, columns int) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	return ansi.Truncate(clean, max(0, columns), "…")
}

// width is the number of columns that text takes.
func width(text string) int { return ansi.StringWidth(text) }

// colours is a sequence that changes colours and nothing else.
var colours = regexp.MustCompile(`^\x1b\[[0-9;:]*m`)

// harmless is what a task printed as a terminal may have it: with its colours, but what could move the
// cursor, ring, or ask the terminal something is shown as a picture of it, and what is no text as �.
func harmless(text string) string {
	var clean strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == '\x1b' && colours.MatchString(text):
			size = len(colours.FindString(text))
			clean.WriteString(text[:size])
		case r == '\n', r == '\t', strings.HasPrefix(text, "\r\n"):
			clean.WriteRune(r)
		case r < ' ':
			clean.WriteRune('\u2400' + r)
		case r == '\x7f':
			clean.WriteRune('\u2421')
		case unicode.IsControl(r):
			clean.WriteRune(utf8.RuneError)
		default:
			clean.WriteRune(r)
		}
		text = text[size:]
	}
	return clean.String()
}
