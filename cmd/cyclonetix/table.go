package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// The values of --format.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// column is a column of a table.
type column struct {
	title string
	right bool // numbers
}

// cell is a text with a look.
type cell struct {
	text string
	look colour
}

func text(s string) cell { return cell{text: s} }

// writeTable writes rows under titles, in columns as wide as their widest cell. On a terminal the
// last column is cut at its edge.
func (p *program) writeTable(columns []column, rows [][]cell) {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = width(c.title)
		for _, row := range rows {
			widths[i] = max(widths[i], width(row[i].text))
		}
	}
	room := -1
	if isTerminal(p.out) {
		room, _ = size(p.out)
	}
	head := make([]cell, len(columns))
	for i, c := range columns {
		head[i] = cell{c.title, bold}
	}
	p.writeRow(columns, widths, head, room)
	for _, row := range rows {
		p.writeRow(columns, widths, row, room)
	}
}

func (p *program) writeRow(columns []column, widths []int, row []cell, room int) {
	const gap = "  "
	var line strings.Builder
	used, pending := 0, ""
	for i, c := range row {
		shown := c.text
		if i == len(row)-1 && room > 0 {
			shown = clip(shown, max(1, room-used-len(pending)))
		}
		space := strings.Repeat(" ", max(0, widths[i]-width(shown)))
		if columns[i].right {
			pending += space
			space = ""
		}
		if shown != "" { // spaces at the end of a line are left out
			line.WriteString(pending)
			used += len(pending) + width(shown)
			pending = ""
			line.WriteString(p.paint(p.out, c.look, shown))
		}
		pending += space + gap
	}
	fmt.Fprintln(p.out, line.String())
}

// writeJSON writes a value as JSON that people can read, too.
func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
