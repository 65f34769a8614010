package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The result files of an attempt lie beside its folder, so that a folder that was not touched can be used
// again. Nothing makes them but the task. Their names are used once in the agent's life: what an
// earlier attempt left running cannot give a result of a later one.
const (
	outputSuffix     = ".output"
	evaluationSuffix = ".evaluation"
)

// resultFiles gives what the paths of an attempt's result files begin with.
func (d *directories) resultFiles(dir *directory) string {
	return dir.path + "." + strconv.FormatUint(d.results.Add(1), 10)
}

// mayHaveResults tells whether anybody has made or removed anything beside the folders since the attempt took its own. Most tasks give
// no result, and one look at the time of the folder that all are in is cheaper than four for their files.
func (d *directories) mayHaveResults(dir *directory) bool {
	info, err := d.opened.Stat()
	return err != nil || dir.taken.Sub(info.ModTime()) <= coarseTime
}

// removeResults removes the result files of an attempt, if there are any.
func (d *directories) removeResults(dir *directory, results string) {
	if !d.cleanup || !d.mayHaveResults(dir) {
		return
	}
	for _, path := range [2]string{results + outputSuffix, results + evaluationSuffix} {
		if err := syscall.Unlink(path); err != nil && err != syscall.ENOENT { //nolint:errorlint // a system call's own error
			d.removeAll(path) // it is a folder
		}
	}
}

// readResults puts what the task gave into the result of an attempt of which the process ended by itself.
func readResults(t *task, results string, result *workflow.Result) {
	if t.Spec.EvaluationPoint {
		evaluation, err := readEvaluation(results + evaluationSuffix)
		if err != nil {
			useless(result, "its result ($CYCLO_EVAL_RESULT) can't be used: ", err)
			return
		}
		if evaluation != nil {
			result.Evaluation = evaluation
			result.Status, result.Cause, result.Reason = workflow.TaskCompleted, workflow.CauseNone, ""
		}
	}
	if result.Status != workflow.TaskCompleted {
		return
	}
	output, err := readOutput(results + outputSuffix)
	if err != nil {
		result.Evaluation = nil
		useless(result, "its output ($CYCLO_OUTPUT) can't be used: ", err)
		return
	}
	result.Output = output
}

// useless makes the attempt a failure because of what the task gave.
func useless(result *workflow.Result, what string, err error) {
	reason := what + err.Error()
	if result.Reason != "" {
		reason += " (" + result.Reason + ")"
	}
	result.Status, result.Cause, result.Reason = workflow.TaskFailed, workflow.CauseEvaluation, printable(reason)
}

func readEvaluation(path string) (*workflow.Evaluation, error) {
	written, err := readResult(path, spec.MaxEvaluationBytes)
	if err != nil {
		return nil, err
	}
	return spec.ParseEvaluation(written) //nolint:wrapcheck // it says it all
}

func readOutput(path string) (workflow.Value, error) {
	written, err := readResult(path, spec.MaxOutputBytes)
	if err != nil {
		return "", err
	}
	return spec.ParseOutput(written) //nolint:wrapcheck // it says it all
}

// readResult reads a result file, which the task may have made in any way. One that is not there is empty.
func readResult(path string, limit int64) ([]byte, error) {
	number, err := openResult(path)
	switch {
	case err == syscall.ENOENT: //nolint:errorlint // a system call's own error
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	file := os.NewFile(uintptr(number), path) //nolint:gosec // a descriptor
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, errors.New("it cannot be read")
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	}
	written, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
		return nil, errors.New("it cannot be read")
	case int64(len(written)) > limit:
		return nil, fmt.Errorf("it has more than %d KiB", limit>>10)
	}
	return written, nil
}

// openResult makes one system call where there is no file, which is the usual case. Of a pipe it does not wait
// for anybody.
func openResult(path string) (number int, err error) {
	for {
		number, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
		if err != syscall.EINTR { //nolint:errorlint // a system call's own error
			return number, err
		}
	}
}
