package agent

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/keeper"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Processes runs each task as a shell process, in a process group and a working
// directory of its own, under a keeper.
func Processes() Executor { return processes{} }

type processes struct{}

func (processes) open(l *life) (runner, error) {
	undo := keeper.GiveWay()
	k, err := keeper.Start()
	if err != nil {
		undo()
		return nil, err
	}
	return &processRunner{life: l, keeper: k, undo: undo}, nil
}

// processRunner runs the processes of one life.
type processRunner struct {
	life   *life
	keeper *keeper.Keeper
	undo   func() // of giving way
}

// drainLimit is how long output is read after a process and its group are dead. What
// they wrote is in the pipe by then; only somebody who left the group can still write.
const drainLimit = 2 * time.Second

func (r *processRunner) inline() bool { return false }

func (r *processRunner) close() {
	_ = r.keeper.Close() // it never fails
	r.undo()
}

func (r *processRunner) run(t *task) outcome {
	l, a := r.life, r.life.agent
	if gone := l.mayNotStart(t); gone != nil {
		return *gone
	}
	values, cannot := l.valuesOf(t)
	if cannot != nil {
		return *cannot
	}
	if gone := l.mayNotStart(t); gone != nil { // looking values up may have taken long
		return *gone
	}
	dir, err := a.dirs.open(t.Member)
	if err != nil {
		return refused(t, err)
	}
	results := a.dirs.resultFiles(&dir)
	var out outcome
	if values.git == nil {
		command := keeper.Command{Script: t.Spec.Command, Env: a.env.of(t, values, results), Dir: dir.path}
		out = r.start(t, &command, values.sensitive, &dir, results, nil)
	} else {
		out = r.startInRepository(t, values, &dir, results)
	}
	out.cleanUp = func() {
		a.dirs.removeResults(&dir, results)
		a.dirs.put(t.Member, dir, l.stopping)
	}
	return out
}

// start runs a command. What came before it, if anything, has the log that goes on, and the beginning of the attempt.
func (r *processRunner) start(t *task, command *keeper.Command, sensitive *secrets, dir *directory, results string, before *preparation) outcome {
	process, err := r.keeper.Run(*command)
	switch {
	case errors.Is(err, keeper.ErrLost):
		r.life.lose(errKeeperLost)
		if before != nil {
			before.log.finish()
		}
		return outcome{fate: forgotten}
	case err != nil && before != nil:
		return before.failed(err)
	case err != nil:
		out := refused(t, err)
		sensitive.result(&out.result)
		return out
	}
	return r.attend(t, process, sensitive, dir, results, before)
}

// attend reads what the process prints, ends it when it must end, and says how it ended.
func (r *processRunner) attend(
	t *task, process *keeper.Process, sensitive *secrets, dir *directory, results string, before *preparation,
) outcome {
	var log *taskLog
	began := process.StartedAt()
	if before != nil {
		log, began = before.log, before.began
	} else {
		log = newTaskLog(r.life.logs, t, r.life.agent.options.LogBytes)
		log.hide(sensitive)
	}
	timeout := r.timeout(t.Spec)
	exit, by := keeper.Exit{}, notStopped
	if brief := brieflyAwait(process, &exit); !brief || !drainNow(log, process) {
		var readers sync.WaitGroup
		readers.Add(2)
		go copyOutput(&readers, log, engine.StreamStdout, process.Stdout)
		go copyOutput(&readers, log, engine.StreamStderr, process.Stderr)
		if !brief {
			exit, by = r.watch(t, process, deadline(began, timeout))
		}
		limit := time.AfterFunc(drainLimit, func() { _ = process.Close() }) // ends the readers
		readers.Wait()
		limit.Stop()
	}
	if exit.Lost && by != stoppedByAgent {
		r.life.lose(errKeeperLost)
		by = stoppedByLoss
	}
	_ = process.Close() // nothing is written to it

	out := outcome{logs: log.finish()}
	switch by {
	case stoppedByLoss:
		return outcome{fate: forgotten}
	case stoppedByAgent:
		out.fate, out.result.Started = returned, true
	default:
		out.result = ending(by, exit.Code, exit.Signal, timeout, log.lastLine())
		if by == notStopped && exit.Signal == 0 && r.life.agent.dirs.mayHaveResults(dir) {
			readResults(t, results, &out.result)
		}
		if sensitive.result(&out.result) {
			out.logs = append(out.logs, log.note("sensitive values in the task's result were replaced by "+redacted+
				", and later tasks get them so: let those that need one have it as ${secret:NAME} or as a parameter"))
		}
	}
	out.result.StartTime = t.held.at(began)
	out.result.EndTime = t.held.at(process.StartedAt()).Add(exit.Duration)
	return out
}

// deadline is when what began is to be ended; zero for never.
func deadline(began time.Time, limit time.Duration) time.Time {
	if limit <= 0 {
		return time.Time{}
	}
	return began.Add(limit)
}

// brief is how long a process is left alone at first: its output stays in the pipe, and orders wait. Most
// processes that end so soon print little, and reading it after their end is cheaper.
const brief = 20 * time.Millisecond

// brieflyAwait tells whether the process ended soon, and how.
func brieflyAwait(process *keeper.Process, exit *keeper.Exit) bool {
	over := time.NewTimer(brief)
	defer over.Stop()
	select {
	case *exit = <-process.Exited():
		return true
	case <-over.C:
		return false
	}
}

// drainNow reads what a process that has ended left in its pipes. It is false when there may come more,
// from somebody who holds a pipe still.
func drainNow(log *taskLog, process *keeper.Process) bool {
	buffer := readBuffers.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in the pool
	defer readBuffers.Put(buffer)
	ended := true
	for _, from := range []struct {
		stream engine.Stream
		output *keeper.Output
	}{{engine.StreamStdout, process.Stdout}, {engine.StreamStderr, process.Stderr}} {
		n, err := from.output.ReadNow(*buffer)
		for ; n > 0; n, err = from.output.ReadNow(*buffer) {
			log.write(from.stream, (*buffer)[:n])
		}
		ended = ended && err != nil
	}
	return ended
}

func (r *processRunner) timeout(spec *workflow.TaskSpec) time.Duration {
	if spec.TimeoutSeconds > 0 {
		return time.Duration(spec.TimeoutSeconds * float64(time.Second))
	}
	return r.life.agent.options.ExecutionTimeout
}

// watch waits for the end of the process, which is to come before a time, if that is not zero. What first tells it to end
// counts; the shortest grace counts.
func (r *processRunner) watch(t *task, process *keeper.Process, latest time.Time) (keeper.Exit, stopped) {
	var timeout <-chan time.Time
	if !latest.IsZero() {
		timer := time.NewTimer(time.Until(latest))
		defer timer.Stop()
		timeout = timer.C
	}
	by, deadline := notStopped, time.Time{}
	var force <-chan time.Time
	stop := func(reason stopped, grace time.Duration) {
		if by == notStopped {
			by = reason
			_ = process.Signal(syscall.SIGTERM) // it may have ended
		}
		if end := time.Now().Add(grace); deadline.IsZero() || end.Before(deadline) {
			deadline = end
			force = time.After(grace)
		}
	}
	kill, stopping, lost := t.kill, r.life.stopping, r.life.lost
	for {
		select {
		case exit := <-process.Exited():
			return exit, by
		case <-timeout:
			timeout = nil
			stop(stoppedByTimeout, r.life.agent.options.killGrace)
		case <-kill:
			kill = nil
			stop(stoppedByOrder, r.life.agent.options.killGrace)
		case <-stopping:
			stopping = nil
			stop(stoppedByAgent, stopGrace)
		case <-lost:
			lost = nil
			stop(stoppedByLoss, fenceGrace)
		case <-force:
			force = nil
			_ = process.Signal(syscall.SIGKILL)
		}
	}
}

// chunks of the pipe's own size are read.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// copyOutput reads until the end. Whatever becomes of the log, the pipe is drained.
func copyOutput(done *sync.WaitGroup, log *taskLog, stream engine.Stream, output *keeper.Output) {
	defer done.Done()
	buffer := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buffer)
	for {
		n, err := output.Read(*buffer)
		if n > 0 {
			log.write(stream, (*buffer)[:n])
		}
		if err != nil {
			return
		}
	}
}
