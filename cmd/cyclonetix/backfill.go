package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// backfillPage is the number of runs that one request starts.
	backfillPage = 200
	// backfillPause is how often the runs of a backfill are looked at.
	backfillPause = 300 * time.Millisecond
)

func (p *program) backfill() *cobra.Command {
	var request api.Backfill
	var wait bool
	command := &cobra.Command{
		Use: "backfill DAG", Short: "Start a run of a DAG for each scheduled time in a range of dates",
		Long: "Start a run of a DAG for each of its scheduled times in a range of dates, or for each day where it has no schedule. A time\n" +
			"that has a run gets no other: the same command again goes on where the first one stopped.",
		Args: p.takes("DAG"),
		PreRunE: func(command *cobra.Command, _ []string) error {
			if request.StartDate == "" || request.EndDate == "" {
				return p.usage(command, errors.New("backfill needs --start-date and --end-date"))
			}
			return nil
		},
		RunE: p.withService(func(ctx context.Context, service api.Service, args []string) error {
			request.DAGID = args[0]
			b := &backfill{program: p, service: service, live: isTerminal(p.err)}
			if err := b.start(ctx, request); err != nil {
				return err
			}
			var err error
			if wait {
				err = b.wait(ctx)
			}
			return errors.Join(b.write(), err)
		}),
	}
	flags := command.Flags()
	flags.StringVar(&request.StartDate, "start-date", "", "the first `date`: 2026-01-31, or a time as RFC 3339 has it")
	flags.StringVar(&request.EndDate, "end-date", "", "the last `date`; a day counts to its end")
	flags.StringVar(&request.Context, "context", "", "`id` of the context for all tasks")
	flags.IntVar(&request.MaxParallel, "max-parallel", 0, "`number` of runs that may be under way at once; 0 for no bound but the DAG's own")
	flags.BoolVar(&wait, "wait", false, "watch the runs until all have ended; exit with 1 when one failed")
	return command
}

// backfill is a backfill under way.
type backfill struct {
	*program

	service api.Service
	all     api.Backfilled
	open    map[string]int // those that have not ended, by id: their place in all.Runs
	live    bool           // there is a line that is drawn anew
}

// start starts the runs, in pages. When the server takes no more for now, it waits.
func (b *backfill) start(ctx context.Context, request api.Backfill) error {
	request.Limit = backfillPage
	b.all.Runs, b.open = []api.BackfillRun{}, map[string]int{}
	for {
		page, err := b.service.Backfill(ctx, &request)
		if full, ok := errors.AsType[*api.Error](err); ok && full.Status == http.StatusTooManyRequests {
			if !sleep(ctx, time.Second) {
				return context.Cause(ctx)
			}
			continue
		}
		if err != nil {
			b.endLine()
			return err
		}
		b.all.Success, b.all.DAGID, b.all.Total = page.Success, page.DAGID, page.Total
		for _, run := range page.Runs {
			if !run.Status.Ended() {
				b.open[run.RunID] = len(b.all.Runs)
			}
			b.all.Runs = append(b.all.Runs, run)
		}
		b.all.Limit = len(b.all.Runs)
		request.Offset += len(page.Runs)
		done := len(page.Runs) == 0 || request.Offset >= page.Total
		if done || b.live {
			b.line(fmt.Sprintf("%d of %s started", len(b.all.Runs), count(b.all.Total, "run")) + b.existing())
		}
		if done {
			b.endLine()
			return nil
		}
	}
}

// existing says how many of the runs were there before.
func (b *backfill) existing() string {
	found := 0
	for i := range b.all.Runs {
		if b.all.Runs[i].Existing {
			found++
		}
	}
	if found == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of them before", found)
}

// line shows how far it is; on a terminal, in the place of the line before.
func (b *backfill) line(text string) {
	if !b.live {
		b.talk("%s", text)
		return
	}
	columns, _ := size(b.err)
	fmt.Fprint(b.err, "\r\x1b[2K"+clip(text, columns-1))
}

func (b *backfill) endLine() {
	if b.live {
		fmt.Fprintln(b.err)
	}
}

// wait watches the runs until all have ended. When the context ends first, they go on.
func (b *backfill) wait(ctx context.Context) error {
	var lastAnswer time.Time
	for {
		begin := time.Now()
		err := b.look(ctx)
		switch {
		case ctx.Err() != nil:
			b.endLine()
			b.talk("the runs go on; watch them again with the same command")
			return statusError(exitInterrupted)
		case err != nil && (!unanswered(err) || lastAnswer.IsZero() || begin.Sub(lastAnswer) > patience):
			b.endLine()
			return err
		case err == nil:
			lastAnswer = begin
			if b.live {
				b.line(b.summary())
			}
		}
		if len(b.open) == 0 && err == nil {
			break
		}
		sleep(ctx, restAfter(time.Since(begin), backfillPause))
	}
	b.endLine()
	failed := 0
	for i := range b.all.Runs {
		if b.all.Runs[i].Status != workflow.RunCompleted {
			failed++
		}
	}
	if !b.live {
		b.talk("%s", b.summary())
	}
	if failed > 0 {
		b.talk("see why: %s list-runs --dag %s --status failed,cancelled", calledAs(), b.all.DAGID)
		return statusError(exitFailed)
	}
	return nil
}

// look finds out which runs have ended.
func (b *backfill) look(ctx context.Context) error {
	unfinished, err := b.unfinished(ctx)
	if err != nil {
		return err
	}
	for id, place := range b.open {
		run := &b.all.Runs[place]
		if status, ok := unfinished[id]; ok {
			run.Status = status
			continue
		}
		seen, err := b.service.Run(ctx, id, api.Include{}) // a page of the list may have missed it
		if err != nil {
			return err
		}
		if run.Status = seen.Status; !run.Status.Ended() {
			continue
		}
		delete(b.open, id)
		if !b.live {
			b.talk("%s run %s of %s for %s is %s", local(seen.EndTime).Format("15:04:05"), id, b.all.DAGID, dateText(run.LogicalDate), run.Status)
		}
	}
	return nil
}

// unfinished are the DAG's runs that have not ended.
func (b *backfill) unfinished(ctx context.Context) (map[string]workflow.RunStatus, error) {
	found := map[string]workflow.RunStatus{}
	query := api.RunQuery{
		DAGID: b.all.DAGID, Limit: api.MaxLimit, Status: []workflow.RunStatus{workflow.RunPending, workflow.RunRunning, workflow.RunPaused},
	}
	for {
		page, err := b.service.Runs(ctx, &query)
		if err != nil {
			return nil, err
		}
		for i := range page.Runs {
			found[page.Runs[i].RunID] = page.Runs[i].Status
		}
		if query.Offset += len(page.Runs); len(page.Runs) < query.Limit {
			return found, nil
		}
	}
}

// summary is a bar, and the number of runs in each state.
func (b *backfill) summary() string {
	counts := map[workflow.RunStatus]int{}
	for i := range b.all.Runs {
		counts[b.all.Runs[i].Status]++
	}
	total := len(b.all.Runs)
	words := []string{fmt.Sprintf("%d of %s ended", total-len(b.open), count(total, "run"))}
	for _, status := range []workflow.RunStatus{
		workflow.RunCompleted, workflow.RunFailed, workflow.RunCancelled, workflow.RunRunning, workflow.RunPaused, workflow.RunPending,
	} {
		if counts[status] > 0 {
			words = append(words, fmt.Sprintf("%d %s", counts[status], status))
		}
	}
	text := strings.Join(words, ", ")
	if !b.live {
		return text
	}
	filled := barColumns * (total - len(b.open)) / max(1, total)
	return strings.Repeat("█", filled) + strings.Repeat("░", barColumns-filled) + " " + text
}

// write writes the runs.
func (b *backfill) write() error {
	if b.format == formatJSON {
		return writeJSON(b.out, &b.all)
	}
	rows := make([][]cell, len(b.all.Runs))
	for i := range b.all.Runs {
		run := &b.all.Runs[i]
		rows[i] = []cell{text(dateText(run.LogicalDate)), text(run.RunID), runStatus(run.Status)}
	}
	b.writeTable([]column{{title: "LOGICAL DATE"}, {title: "RUN"}, {title: "STATUS"}}, rows)
	return nil
}

// dateText is a logical date: in UTC, as a task sees it.
func dateText(date time.Time) string { return date.UTC().Format(time.RFC3339) }
