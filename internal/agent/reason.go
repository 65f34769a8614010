package agent

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// maxLastLine is how much of the last line of stderr a reason holds, in bytes.
const maxLastLine = 200

// What a shell says with these exit codes.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the signal's number
)

// stopped says that the agent stopped a process itself, and why.
type stopped uint8

const (
	notStopped stopped = iota
	stoppedByOrder
	stoppedByTimeout
	stoppedByAgent
	stoppedByLoss
)

// ending describes how a process ended. A signal's exit code is 128 and its
// number, as shells say it.
func ending(by stopped, code int, sig syscall.Signal, timeout time.Duration, lastLine string) workflow.Result {
	exit := int32(code) //nolint:gosec // 8 bits
	if sig != 0 {
		exit = int32(exitSignal + sig) //nolint:gosec // 7 bits
	}
	result := workflow.Result{Status: workflow.TaskFailed, Started: true, ExitCode: &exit}
	switch {
	case by == stoppedByTimeout:
		result.Cause, result.Reason = workflow.CauseTimeout, "timed out after "+seconds(timeout)
	case by == stoppedByOrder:
		result.Status, result.Cause = workflow.TaskCancelled, workflow.CauseCancel
		result.Reason = "cancelled; " + howEnded(code, sig)
		return result
	case sig != 0:
		result.Cause, result.Reason = workflow.CauseSignal, howEnded(code, sig)
		if sig == syscall.SIGKILL {
			result.Reason += " (the system does that when memory is short)"
		}
	case code == 0:
		result.Status = workflow.TaskCompleted
		return result
	default:
		result.Cause, result.Reason = workflow.CauseExit, howEnded(code, sig)
	}
	if lastLine != "" {
		result.Reason += ": " + lastLine
	}
	return result
}

func howEnded(code int, sig syscall.Signal) string {
	switch {
	case sig != 0:
		return "killed by " + signalName(sig)
	case code == exitNotFound:
		return "exit code 127 (a command was not found)"
	case code == exitNotExecutable:
		return "exit code 126 (a command cannot be executed)"
	case code > exitSignal && unix.SignalName(syscall.Signal(code-exitSignal)) != "":
		return fmt.Sprintf("exit code %d (a command was killed by %s)", code, signalName(syscall.Signal(code-exitSignal)))
	default:
		return "exit code " + strconv.Itoa(code)
	}
}

func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return "signal " + strconv.Itoa(int(sig))
}

func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
}

// failedToStart is the result of a task that could not be started.
func failedToStart(reason string, at time.Time) workflow.Result {
	return workflow.Result{
		Status: workflow.TaskFailed, Cause: workflow.CauseStart, Reason: "cannot be started: " + printable(reason), EndTime: at,
	}
}

// cancelledBefore is the result of a task that was cancelled before it started.
func cancelledBefore(at time.Time) workflow.Result {
	return workflow.Result{
		Status: workflow.TaskCancelled, Cause: workflow.CauseCancel, Reason: "cancelled before it started", EndTime: at,
	}
}

// lastLine is the last line of the text that is not empty, made printable, at most maxLastLine bytes.
func lastLine(text []byte) string {
	text = bytes.TrimRightFunc(text, unicode.IsSpace)
	if i := bytes.LastIndexAny(text, "\r\n"); i >= 0 {
		text = text[i+1:]
	}
	line := printable(string(text))
	if len(line) <= maxLastLine {
		return line
	}
	const ellipsis = "…"
	end := maxLastLine - len(ellipsis)
	for !utf8.RuneStart(line[end]) {
		end--
	}
	return line[:end] + ellipsis
}

// printable replaces what is no printable UTF-8.
func printable(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		default:
			return utf8.RuneError
		}
	}, text))
}
