package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Options say what is measured, and where.
type Options struct {
	// URL of a PostgreSQL server. Schemas of the benchmark's own are made there, and dropped at the end.
	URL string
	// Only names the cases to run; empty for all of Cases.
	Only []string
	// Rounds is how often a case is measured; its figure is the median. 0 means 3.
	Rounds int
	// Scale multiplies the sizes; 0 means 1. The bars are meant for 1.
	Scale float64
	// Say is told what is going on.
	Say    func(format string, arguments ...any)
	Logger *slog.Logger
}

// benchCase is one of the things that are measured.
type benchCase struct {
	name, what string
	run        func(ctx context.Context, b *bencher) error
}

var cases = []benchCase{
	{"throughput", "many runs, one wide run, chains, against bare River; WAL", throughput},
	{"two-processes", "the same with orchestrator and agent as two processes, and their hop", twoProcesses},
	{"hop", "the end of a task to the start of the next", hop},
	{"processes", "real processes, against raw starts", processes},
	{"planning", "planning an outcome over 100,000 tasks", planning},
	{"memory", "resident memory with one unfinished run of 100,000 tasks", memory},
	{"history", "with 5 million finished task runs, and on a young partition", history},
	{"snapshot", "while another session holds a snapshot open for a minute", snapshot},
	{"idle", "what an idle server does in a minute", idle},
}

// Cases are the names of all cases, with what they measure.
func Cases() [][2]string {
	var names [][2]string
	for _, known := range cases {
		names = append(names, [2]string{known.name, known.what})
	}
	return names
}

// bencher is a benchmark under way.
type bencher struct {
	options Options
	report  *Report
}

// Run measures. What was found out until an error is in the report.
func Run(ctx context.Context, options Options) (*Report, error) {
	if options.Rounds == 0 {
		options.Rounds = 3
	}
	if options.Scale == 0 {
		options.Scale = 1
	}
	if options.Say == nil {
		options.Say = func(string, ...any) {}
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	for _, name := range options.Only {
		if !slices.ContainsFunc(cases, func(known benchCase) bool { return known.name == name }) {
			return nil, fmt.Errorf("there is no case %q; there are %s", name, caseNames())
		}
	}
	b := &bencher{options: options, report: &Report{Machine: machine()}}
	if err := b.describe(ctx); err != nil {
		return nil, err
	}
	for _, known := range cases {
		if len(options.Only) > 0 && !slices.Contains(options.Only, known.name) {
			continue
		}
		options.Say("%s: %s", known.name, known.what)
		if err := known.run(ctx, b); err != nil {
			return b.report, fmt.Errorf("%s: %w", known.name, err)
		}
	}
	return b.report, nil
}

func caseNames() string {
	var names []string
	for _, known := range cases {
		names = append(names, known.name)
	}
	return strings.Join(names, ", ")
}

func (b *bencher) add(rows ...Row) {
	for _, row := range rows {
		b.options.Say("  %s: %s %s", row.Name, number(row.Value), row.Unit)
	}
	b.report.Rows = append(b.report.Rows, rows...)
}

func (b *bencher) scaled(count int) int { return max(1, int(float64(count)*b.options.Scale)) }

// with gives work a cluster of its own.
func (b *bencher) with(ctx context.Context, work func(c *cluster) error) (err error) {
	c, err := newCluster(ctx, b.options.URL, b.options.Logger)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, c.close(closing))
	}()
	return work(c)
}

// describe notes the server and those of its settings that matter.
func (b *bencher) describe(ctx context.Context) error {
	return b.with(ctx, func(c *cluster) error {
		if err := c.sql.QueryRow(ctx, "SELECT split_part(version(), ' on ', 1)").Scan(&b.report.Server); err != nil {
			return fmt.Errorf("read the version of the server: %w", err)
		}
		rows, err := c.sql.Query(ctx, `SELECT name, current_setting(name) FROM pg_settings WHERE name IN
			('fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers', 'max_wal_size', 'wal_compression')`)
		if err != nil {
			return fmt.Errorf("read the settings of the server: %w", err)
		}
		defer rows.Close()
		b.report.Settings = map[string]string{}
		for rows.Next() {
			var name, value string
			if err := rows.Scan(&name, &value); err != nil {
				return fmt.Errorf("read the settings of the server: %w", err)
			}
			b.report.Settings[name] = value
		}
		return rows.Err() //nolint:wrapcheck // nothing to add
	})
}

func machine() string {
	model := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s, %s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.Version())
}
