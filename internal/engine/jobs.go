package engine

import (
	"context"
	"fmt"
	"time"
)

// JobHandler does one job. After an error it is tried again, with backoff.
type JobHandler func(ctx context.Context, args []byte) error

// Jobs are the handlers of the product's own jobs. Register all of them before StartJobs:
// a process that lacks a kind would discard its jobs.
type Jobs struct {
	handlers map[string]JobHandler
	periods  map[string]time.Duration
}

// HandleJob registers the handler of a kind of job. A kind is registered once.
func (j *Jobs) HandleJob(kind string, handler JobHandler) {
	if j.handlers == nil {
		j.handlers, j.periods = map[string]JobHandler{}, map[string]time.Duration{}
	}
	if _, ok := j.handlers[kind]; ok {
		panic(fmt.Sprintf("the job %q has two handlers", kind))
	}
	j.handlers[kind] = handler
}

// Every lets a kind of job run at start and then in the given interval, once in the whole cluster.
func (j *Jobs) Every(interval time.Duration, kind string) { j.periods[kind] = interval }

// Handlers are the registered handlers by kind.
func (j *Jobs) Handlers() map[string]JobHandler { return j.handlers }

// Periods are the intervals of the kinds that run by themselves.
func (j *Jobs) Periods() map[string]time.Duration { return j.periods }
