package agent

import (
	"context"
	"errors"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// outputTimeout bounds one look-up of outputs.
const outputTimeout = 10 * time.Second

// valuesOf resolves the values of a task that is to start. Outputs are looked up until that succeeds or the
// task is not to start any more: it can't help what is wrong there. Else cannot is what comes of the task instead.
func (l *life) valuesOf(t *task) (values *resolvedValues, cannot *outcome) {
	if values := l.agent.env.known(t); values != nil {
		return values, nil
	}
	return l.resolve(t)
}

func (l *life) resolve(t *task) (values *resolvedValues, cannot *outcome) {
	retry := backoff{}
	for {
		values, err := l.agent.env.resolve(t, func(tasks []string) (map[string]workflow.Value, error) { return l.outputs(t, tasks) })
		var look outputError
		switch {
		case err == nil:
			return values, nil
		case !errors.As(err, &look):
			failed := refused(t, err)
			return nil, &failed
		case errors.Is(err, engine.ErrRefused):
			failed := refused(t, errors.New("the outputs of other tasks cannot be read"))
			return nil, &failed
		case errors.Is(err, engine.ErrAgentLost):
			l.lose(err)
		}
		if gone := l.mayNotStart(t); gone != nil {
			return nil, gone
		}
		l.agent.logger.Warn("outputs of other tasks cannot be read yet; trying again", "error", look.error)
		pause := time.NewTimer(retry.next())
		select {
		case <-pause.C:
		case <-l.stopping:
		case <-l.lost:
		case <-t.kill:
		}
		pause.Stop()
		if gone := l.mayNotStart(t); gone != nil {
			return nil, gone
		}
	}
}

// outputs asks the cluster.
func (l *life) outputs(t *task, tasks []string) (map[string]workflow.Value, error) {
	ctx, cancel := context.WithTimeout(l.calls, outputTimeout)
	defer cancel()
	return l.session.Outputs(ctx, t.Run.ID, tasks) //nolint:wrapcheck // whoever logs it says what it was
}

// mayNotStart is what comes of a task that is not to be started any more, or nil.
func (l *life) mayNotStart(t *task) *outcome {
	switch {
	case l.expired() || l.isLost():
		return &outcome{fate: forgotten}
	case closed(l.stopping):
		return &outcome{fate: returned}
	case closed(t.kill):
		return &outcome{result: cancelledBefore(t.held.at(time.Now()))}
	default:
		return nil
	}
}

func refused(t *task, err error) outcome {
	return outcome{result: failedToStart(err.Error(), t.held.at(time.Now()))}
}
