package api

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// logPage is the number of chunks (at most 64 KiB each) in one answer.
	logPage = 64
	// includedLines is the number of lines of each task run that Include.Logs adds, and
	// includedBytes the bytes over all task runs after which it adds no more.
	includedLines = 100
	includedBytes = 4 << 20
	// followPoll is how long FollowLogs waits after it found nothing, at the least and at the most.
	followPollLeast, followPollMost = 100 * time.Millisecond, time.Second
)

// Logs implements Service.
func (d *Direct) Logs(ctx context.Context, id string, query *LogQuery) (*Logs, error) {
	run, node, after, err := logRequest(id, query)
	if err != nil {
		return nil, err
	}
	task, err := d.taskRun(ctx, run, node)
	if err != nil {
		return nil, d.explain(ctx, "find task run "+id, err)
	}
	logs := &Logs{
		TaskRunID: id, Status: task.Status, Logs: []LogEntry{},
		StartTime: utc(task.StartTime), EndTime: utc(task.EndTime),
	}
	var chunks []engine.LogChunk
	if query.Tail > 0 {
		chunks, after, err = d.tail(ctx, run, node, after, query)
	} else {
		chunks, after, logs.HasMore, err = d.page(ctx, run, node, after, query.Since)
	}
	if err != nil {
		return nil, d.explain(ctx, "read the log of task run "+id, err)
	}
	for i := range chunks {
		logs.Logs = append(logs.Logs, entryOf(&chunks[i]))
	}
	logs.Next = formatPlace(after)
	return logs, nil
}

// FollowLogs implements Service.
func (d *Direct) FollowLogs(ctx context.Context, id string, query *LogQuery, emit func(LogEntry) error) error {
	run, node, after, err := logRequest(id, query)
	if err != nil {
		return err
	}
	task, err := d.taskRun(ctx, run, node)
	if err != nil {
		return d.explain(ctx, "find task run "+id, err)
	}
	if query.Tail > 0 {
		chunks, next, err := d.tail(ctx, run, node, after, query)
		if err != nil {
			return d.explain(ctx, "read the log of task run "+id, err)
		}
		if err := emitAll(chunks, emit); err != nil {
			return err
		}
		after = next
	}
	for pause := followPollLeast; ; {
		chunks, next, more, err := d.page(ctx, run, node, after, query.Since)
		if err != nil {
			return d.explain(ctx, "read the log of task run "+id, err)
		}
		after = next
		if err := emitAll(chunks, emit); err != nil {
			return err
		}
		switch {
		case more:
			continue
		case task.Status.Ended(): // as seen before the log was read: nothing is printed after the end
			return nil
		case len(chunks) > 0:
			pause = followPollLeast
		default:
			pause = min(2*pause, followPollMost)
		}
		if !sleep(ctx, pause) {
			return context.Cause(ctx)
		}
		if len(chunks) > 0 {
			continue // it still prints
		}
		if task, err = d.taskRun(ctx, run, node); err != nil {
			return d.explain(ctx, "find task run "+id, err)
		}
	}
}

func emitAll(chunks []engine.LogChunk, emit func(LogEntry) error) error {
	for i := range chunks {
		if err := emit(entryOf(&chunks[i])); err != nil {
			return err
		}
	}
	return nil
}

func logRequest(id string, query *LogQuery) (run workflow.RunID, node int32, after engine.LogPlace, err error) {
	if query.Tail < 0 || query.Tail > MaxTail {
		return run, node, after, badField("tail", "it is from 1 to 100000 lines, or 0 for all")
	}
	if run, node, err = parseTaskRun(id); err != nil {
		return run, node, after, err
	}
	after, err = parsePlace(query.After)
	return run, node, after, err
}

func parseTaskRun(id string) (run workflow.RunID, node int32, err error) {
	if run, node, err = workflow.ParseTaskRunID(id); err != nil {
		err = notFound(err.Error(), "`cyclonetix show-run RUN --show-tasks --format json` shows the ids")
	}
	return run, node, err
}

// taskRun gives the state of one task run.
func (d *Direct) taskRun(ctx context.Context, run workflow.RunID, node int32) (*engine.TaskRunView, error) {
	task, err := d.backend.TaskRun(ctx, run, node)
	if !errors.Is(err, engine.ErrNotFound) {
		return &task, err
	}
	if _, err := d.backend.FindRun(ctx, run.String()); err != nil {
		return nil, err
	}
	return nil, notFound("there is no task run "+workflow.TaskRunID(run, node), "")
}

// page reads the next chunks of a log, and tells where they end and whether there are more.
func (d *Direct) page(ctx context.Context, run workflow.RunID, node int32, after engine.LogPlace, since time.Time) (
	chunks []engine.LogChunk, next engine.LogPlace, more bool, err error,
) {
	chunks, err = d.backend.Logs(ctx, run, node, after, logPage+1)
	if err != nil {
		return nil, after, false, err
	}
	if more = len(chunks) > logPage; more {
		chunks = chunks[:logPage]
	}
	next = after
	if len(chunks) > 0 {
		last := &chunks[len(chunks)-1]
		next = engine.LogPlace{Attempt: last.Attempt, Seq: last.Seq}
	}
	kept := chunks[:0]
	for _, chunk := range chunks {
		if !chunk.Time.Before(since) {
			kept = append(kept, chunk)
		}
	}
	return kept, next, more, nil
}

// tail reads a log to its end, and gives its last lines and where it ends.
func (d *Direct) tail(ctx context.Context, run workflow.RunID, node int32, after engine.LogPlace, query *LogQuery) (
	[]engine.LogChunk, engine.LogPlace, error,
) {
	var kept []engine.LogChunk
	for more := true; more; {
		var chunks []engine.LogChunk
		var err error
		if chunks, after, more, err = d.page(ctx, run, node, after, query.Since); err != nil {
			return nil, after, err
		}
		kept = lastLines(append(kept, chunks...), query.Tail)
	}
	return kept, after, nil
}

// lastLines leaves the last count lines of what the chunks hold.
func lastLines(chunks []engine.LogChunk, count int) []engine.LogChunk {
	for i := len(chunks) - 1; i >= 0; i-- {
		body := chunks[i].Body
		end := len(body)
		if i == len(chunks)-1 && end > 0 && body[end-1] == '\n' {
			end-- // it ends the last line and begins none
		}
		for {
			at := bytes.LastIndexByte(body[:end], '\n')
			if at < 0 {
				break
			}
			if count--; count == 0 {
				chunks[i].Body = body[at+1:]
				if len(chunks[i].Body) == 0 {
					i++
				}
				return chunks[i:]
			}
			end = at
		}
	}
	return chunks
}

// addLogs puts the end of each log into tasks.
func (d *Direct) addLogs(ctx context.Context, run workflow.RunID, views []engine.TaskRunView, tasks []Task) error {
	room := includedBytes
	for i := range tasks {
		if views[i].Attempt == 0 || room <= 0 {
			continue
		}
		chunks, _, err := d.tail(ctx, run, views[i].Node, beginning, &LogQuery{Tail: includedLines})
		if err != nil {
			return err
		}
		for j := range chunks {
			room -= len(chunks[j].Body)
			tasks[i].Logs = append(tasks[i].Logs, entryOf(&chunks[j]))
		}
	}
	return nil
}
