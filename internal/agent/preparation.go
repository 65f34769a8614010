package agent

import (
	"errors"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/checkout"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/keeper"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// preparation runs what comes before the command of a task. It is a checkout.Runner: its processes are under the keeper,
// and what ends the task ends them.
type preparation struct {
	runner    *processRunner
	task      *task
	log       *taskLog
	sensitive *secrets
	began     time.Time
	limit     time.Duration
	doing     string  // what it is at, in the past, for a reason
	by        stopped // what ended it
}

// errStopped tells that a preparation was ended; by says why.
var errStopped = errors.New("the task was stopped")

// prepare begins an attempt.
func (r *processRunner) prepare(t *task) *preparation {
	p := &preparation{runner: r, task: t, began: time.Now(), limit: r.timeout(t.Spec)}
	p.log = newTaskLog(r.life.logs, t, r.life.agent.options.LogBytes)
	return p
}

// Say implements checkout.Runner.
func (p *preparation) Say(line string) { p.log.write(engine.StreamStderr, []byte(line+"\n")) }

// Run implements checkout.Runner.
func (p *preparation) Run(command *checkout.Command) (checkout.Exit, error) {
	ended, err := p.step(&keeper.Command{Args: command.Args, Env: command.Env, Dir: command.Dir}, true)
	return checkout.Exit{Code: ended.code, Stdout: ended.stdout, Stderr: ended.stderr}, err
}

// Pause implements checkout.Runner.
func (p *preparation) Pause(length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	var timeout <-chan time.Time
	if p.limit > 0 {
		over := time.NewTimer(time.Until(p.began.Add(p.limit)))
		defer over.Stop()
		timeout = over.C
	}
	select {
	case <-timer.C:
		return nil
	case <-timeout:
		p.by = stoppedByTimeout
	case <-p.task.kill:
		p.by = stoppedByOrder
	case <-p.runner.life.stopping:
		p.by = stoppedByAgent
	case <-p.runner.life.lost:
		p.by = stoppedByLoss
	}
	return errStopped
}

// step is a process that has ended.
type step struct {
	code   int    // not 0 when a signal ended it
	how    string // in words
	stdout string // where it was wanted
	stderr string // the end of it
}

// maxStepOutput bounds what is kept of what a step prints, in bytes.
const maxStepOutput = 8 << 10

// step runs a process to its end. What it prints goes to the log, but for its standard output where that is wanted.
// The error is errStopped, or says why it could not be started.
func (p *preparation) step(command *keeper.Command, wanted bool) (step, error) {
	r := p.runner
	process, err := r.keeper.Run(*command)
	if errors.Is(err, keeper.ErrLost) {
		r.life.lose(errKeeperLost)
		p.by = stoppedByLoss
		return step{}, errStopped
	}
	if err != nil {
		return step{}, err //nolint:wrapcheck // it names the command
	}
	stdout, stderr := stepOutput{}, stepOutput{log: p.log, stream: engine.StreamStderr}
	if !wanted {
		stdout = stepOutput{log: p.log, stream: engine.StreamStdout}
	}
	var readers sync.WaitGroup
	readers.Add(2)
	go stdout.read(&readers, process.Stdout)
	go stderr.read(&readers, process.Stderr)
	exit, by := r.watch(p.task, process, deadline(p.began, p.limit))
	limit := time.AfterFunc(drainLimit, func() { _ = process.Close() }) // ends the readers
	readers.Wait()
	limit.Stop()
	_ = process.Close() // nothing is written to it
	if exit.Lost && by != stoppedByAgent {
		r.life.lose(errKeeperLost)
		by = stoppedByLoss
	}
	if by != notStopped {
		p.by = by
		return step{}, errStopped
	}
	ended := step{code: exit.Code, how: howEnded(exit.Code, exit.Signal), stdout: string(stdout.tail), stderr: string(stderr.tail)}
	if exit.Signal != 0 {
		ended.code = exitSignal + int(exit.Signal)
	}
	return ended, nil
}

// failed is what comes of a task whose command is not to be started, after the error of a step.
func (p *preparation) failed(err error) outcome {
	out := outcome{logs: p.log.finish()}
	if errors.Is(err, errStopped) {
		switch p.by {
		case stoppedByLoss:
			return outcome{fate: forgotten}
		case stoppedByAgent:
			out.fate = returned
		case stoppedByOrder:
			out.result = workflow.Result{Status: workflow.TaskCancelled, Cause: workflow.CauseCancel, Reason: "cancelled while " + p.doing}
		case stoppedByTimeout, notStopped:
			out.result = workflow.Result{
				Status: workflow.TaskFailed, Cause: workflow.CauseTimeout, Reason: "timed out after " + seconds(p.limit) + " while " + p.doing,
			}
		}
	} else {
		out.result = failedToStart(err.Error(), time.Time{})
	}
	p.sensitive.result(&out.result)
	// It has run processes and written a log, so the attempt counts as one that has begun.
	out.result.Started = true
	out.result.StartTime, out.result.EndTime = p.task.held.at(p.began), p.task.held.at(time.Now())
	return out
}

// stepOutput is a stream of a step.
type stepOutput struct {
	log    *taskLog // nil where only its end is wanted
	stream engine.Stream
	tail   []byte
}

func (o *stepOutput) read(done *sync.WaitGroup, output *keeper.Output) {
	defer done.Done()
	buffer := readBuffers.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in the pool
	defer readBuffers.Put(buffer)
	for {
		n, err := output.Read(*buffer)
		if n > 0 {
			if o.log != nil {
				o.log.write(o.stream, (*buffer)[:n])
			}
			o.tail = append(o.tail, (*buffer)[:n]...)
			if excess := len(o.tail) - maxStepOutput; excess > 0 {
				o.tail = o.tail[:copy(o.tail, o.tail[excess:])]
			}
		}
		if err != nil {
			return
		}
	}
}
