package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func (p *program) listRuns() *cobra.Command {
	var statuses []string
	var since string
	var query api.RunQuery
	limit := 20
	command := &cobra.Command{
		Use: "list-runs", Short: "List runs, newest first",
		Args: p.takes(),
		PreRunE: func(command *cobra.Command, _ []string) (err error) {
			if query.Status, err = parseStatuses(statuses); err == nil && since != "" {
				if query.Since, err = parseSince(since, time.Now()); err != nil {
					err = fmt.Errorf("--since: %w", err)
				}
			}
			if err == nil && limit < 1 {
				err = fmt.Errorf("--limit: %d is below 1", limit)
			}
			return p.usage(command, err)
		},
		RunE: p.withService(func(ctx context.Context, service api.Service, _ []string) error {
			list, err := newestRuns(ctx, service, query, limit)
			if err != nil {
				return err
			}
			if p.format == formatJSON {
				return writeJSON(p.out, list)
			}
			p.writeRuns(list)
			return nil
		}),
	}
	flags := command.Flags()
	flags.StringSliceVar(&statuses, "status", nil, "only runs with a `status`: pending, running, paused, completed, failed, cancelled")
	flags.StringVar(&query.DAGID, "dag", "", "only runs of a DAG, or of a task by outcome, with this `id`")
	flags.IntVar(&limit, "limit", limit, "at most so many `runs`")
	flags.StringVar(&since, "since", "", "only runs made since a `time`: an age (1h, 2d), a date, or RFC 3339")
	return command
}

func parseStatuses(names []string) ([]workflow.RunStatus, error) {
	statuses := make([]workflow.RunStatus, len(names))
	for i, name := range names {
		status, err := workflow.ParseRunStatus(name)
		if err != nil {
			return nil, fmt.Errorf("--status: %w", err)
		}
		statuses[i] = status
	}
	return statuses, nil
}

// newestRuns reads as many pages of a list as the limit asks for.
func newestRuns(ctx context.Context, service api.Service, query api.RunQuery, limit int) (*api.RunList, error) {
	all := &api.RunList{Runs: []api.Run{}, Limit: limit}
	for {
		query.Limit = min(api.MaxLimit, limit-len(all.Runs))
		page, err := service.Runs(ctx, &query)
		if err != nil {
			return nil, err
		}
		all.Runs = append(all.Runs, page.Runs...)
		all.Total, all.TotalExact = page.Total, page.TotalExact
		if query.Offset += len(page.Runs); len(page.Runs) < query.Limit || len(all.Runs) >= limit {
			return all, nil
		}
	}
}

// logicalDateColumn is where the date that a run is for stands, in a list that has one.
const logicalDateColumn = 2

func (p *program) writeRuns(list *api.RunList) {
	if len(list.Runs) == 0 {
		p.talk("no run fits; `cyclonetix schedule-task TASK` starts one, `cyclonetix list-tasks` shows the tasks")
		return
	}
	now := time.Now()
	dated := slices.ContainsFunc(list.Runs, func(run api.Run) bool { return !run.LogicalDate.IsZero() })
	rows := make([][]cell, len(list.Runs))
	for i := range list.Runs {
		run := &list.Runs[i]
		rows[i] = []cell{
			text(run.RunID), text(run.DAGID), runStatus(run.Status), text(progress(run)),
			text(ago(run.CreatedTime, now)), text(span(run.StartTime, run.EndTime, now)),
		}
		if dated {
			rows[i] = slices.Insert(rows[i], logicalDateColumn, text(logicalDate(run)))
		}
	}
	columns := []column{{title: "RUN"}, {title: "DAG"}, {title: "STATUS"}, {title: "TASKS"}, {title: "CREATED"}, {"DURATION", true}}
	if dated {
		columns = slices.Insert(columns, logicalDateColumn, column{title: "FOR"})
	}
	p.writeTable(columns, rows)
	if list.Total > len(list.Runs) {
		more := ""
		if !list.TotalExact {
			more = "more than "
		}
		p.talk("%d of %s%d runs; --limit shows more", len(list.Runs), more, list.Total)
	}
}

// progress is how many of a run's task runs are completed, and failed.
func progress(run *api.Run) string {
	completed, failed := counts(run)
	line := fmt.Sprintf("%d/%d", completed, taskCount(run))
	if failed > 0 {
		line += fmt.Sprintf(", %d failed", failed)
	}
	return line
}

// counts are the numbers of a run's tasks that completed and failed. The run's own may lag by a second
// while it goes on; those of the tasks, where they are given, do not.
func counts(run *api.Run) (completed, failed int) {
	if len(run.Tasks) == 0 {
		return run.CompletedTasks, run.FailedTasks
	}
	for i := range run.Tasks {
		switch run.Tasks[i].Status {
		case workflow.TaskCompleted:
			completed++
		case workflow.TaskFailed:
			failed++
		}
	}
	return completed, failed
}

// taskCount is the number of a run's tasks. Those that it got while it runs may not be counted yet.
func taskCount(run *api.Run) int { return max(run.TaskCount, len(run.Tasks)) }
