package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Row is one figure of a report.
type Row struct {
	// What was measured.
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Against is the yardstick of the same run, and Ratio the value divided by it; empty where there is none.
	Against   string  `json:"against,omitempty"`
	Yardstick float64 `json:"yardstick,omitempty"`
	Ratio     float64 `json:"ratio,omitempty"`
	// Bar is what the figure (the ratio where there is one) is to reach, and Reached whether it does.
	Bar     string `json:"bar,omitempty"`
	Reached *bool  `json:"reached,omitempty"`
	// Rounds are the single measurements behind the figure.
	Rounds []float64 `json:"rounds,omitempty"`
}

// Report is what a benchmark found out.
type Report struct {
	Machine  string            `json:"machine"`
	Server   string            `json:"server"`
	Settings map[string]string `json:"settings"`
	Rows     []Row             `json:"rows"`
}

// atLeast sets a bar that the figure must not be under.
func (r Row) atLeast(bar float64) Row { return r.bar(">=", bar, r.figure() >= bar) }

// atMost sets a bar that the figure must not be over.
func (r Row) atMost(bar float64) Row { return r.bar("<=", bar, r.figure() <= bar) }

func (r Row) bar(sign string, bar float64, reached bool) Row {
	r.Bar, r.Reached = sign+" "+number(bar), &reached
	return r
}

func (r Row) figure() float64 {
	if r.Against != "" {
		return r.Ratio
	}
	return r.Value
}

func (r Row) over(against string, yardstick float64) Row {
	r.Against, r.Yardstick, r.Ratio = against, yardstick, r.Value/yardstick
	return r
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(to io.Writer) error {
	fmt.Fprintf(to, "machine   %s\nserver    %s\n", r.Machine, r.Server)
	var settings []string
	for name, value := range r.Settings {
		settings = append(settings, name+"="+value)
	}
	slices.Sort(settings)
	fmt.Fprintf(to, "settings  %s\n\n", strings.Join(settings, " "))
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHAT\tFIGURE\tUNIT\tYARDSTICK\tRATIO\tBAR\t")
	for _, row := range r.Rows {
		yardstick, ratio, reached := "", "", ""
		if row.Against != "" {
			yardstick, ratio = number(row.Yardstick)+" "+row.Against, number(row.Ratio)
		}
		if row.Reached != nil {
			if reached = "reached"; !*row.Reached {
				reached = "missed"
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Name, number(row.Value), row.Unit, yardstick, ratio, row.Bar, reached)
	}
	return table.Flush() //nolint:wrapcheck // the writer's own error
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(to io.Writer) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r) //nolint:wrapcheck // the writer's own error
}

func number(value float64) string {
	switch {
	case value >= 1000:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.2f", value)
}

// median is the middle one of the values, which are not empty.
func median(values []float64) float64 { return percentile(values, 50) }

func percentile(values []float64, percent float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(float64(len(sorted))*percent/100))]
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, value := range values {
		sum += value
	}
	return sum / float64(len(values))
}
