package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/agent"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/postgres"
)

// Some figures need a process of their own. Such a child is this program, told by its environment what it is.
const (
	childRole    = "CYCLONETIX_BENCH_CHILD"
	childURL     = "CYCLONETIX_BENCH_URL"
	childCluster = "CYCLONETIX_BENCH_CLUSTER"
)

// MaybeChild runs a child of a benchmark, and exits, when this process was started as one. Otherwise it returns at once.
func MaybeChild() {
	role := os.Getenv(childRole)
	if role == "" {
		return
	}
	if err := runChild(role); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runChild works until its standard input ends: that is how it notices its parent's end.
func runChild(role string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	backend, err := postgres.Open(ctx, postgres.Options{URL: os.Getenv(childURL), Cluster: os.Getenv(childCluster), PreparedStatements: true, Logger: logger})
	if err != nil {
		return fmt.Errorf("open the backend: %w", err)
	}
	defer backend.Close()
	switch role {
	case "agent":
		worker, err := agent.New(agent.Options{
			Open: backend.OpenAgent, Executor: agent.Noop(), Logger: logger,
			Info: engine.AgentInfo{ID: "bench-child", Slots: slots, Version: "bench"},
		})
		if err != nil {
			return fmt.Errorf("make the agent: %w", err)
		}
		fmt.Println("ready")
		return worker.Run(ctx)
	case "memory":
		return memoryChild(ctx, backend, logger)
	}
	return fmt.Errorf("there is no child %q", role)
}

// child is a running child.
type child struct {
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Scanner
}

// startChild starts a child and waits for its first line.
func (c *cluster) startChild(ctx context.Context, role string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	command := exec.CommandContext(ctx, program)
	command.Env = append(os.Environ(), childRole+"="+role, childURL+"="+c.url, childCluster+"="+c.id)
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a process: %w", err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a process: %w", err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start a process: %w", err)
	}
	started := &child{command: command, input: input, output: bufio.NewScanner(output)}
	if line, err := started.line(); err != nil || line != "ready" {
		return nil, errors.Join(fmt.Errorf("the %s process did not start: %q", role, line), err, started.stop())
	}
	return started, nil
}

func (c *child) line() (string, error) {
	if !c.output.Scan() {
		return "", errors.Join(io.ErrUnexpectedEOF, c.output.Err())
	}
	return strings.TrimSpace(c.output.Text()), nil
}

func (c *child) stop() error {
	_ = c.input.Close() // its end is the signal
	killer := time.AfterFunc(5*time.Second, func() { _ = c.command.Process.Kill() })
	defer killer.Stop()
	if err := c.command.Wait(); err != nil {
		return fmt.Errorf("a process of the benchmark: %w", err)
	}
	return nil
}

// twoProcesses has the orchestrator here and the agent in a child.
func twoProcesses(ctx context.Context, b *bencher) error {
	var speeds, ratios, rivers, hops []float64
	for range b.options.Rounds {
		err := b.with(ctx, func(c *cluster) (err error) {
			river, err := measureRiver(ctx, c, b.scaled(riverJobs))
			if err != nil {
				return err
			}
			var worker *child
			defer func() {
				if worker != nil {
					err = errors.Join(err, worker.stop())
				}
			}()
			result, err := b.load(ctx, c, b.scaled(fanRuns), fan(fanWidth, ""), func() (err error) {
				if err := c.orchestrate(ctx); err != nil {
					return err
				}
				worker, err = c.startChild(ctx, "agent")
				return err
			})
			if err != nil {
				return err
			}
			rivers, speeds = append(rivers, river.jobsPerSecond), append(speeds, result.tasksPerSecond)
			ratios = append(ratios, result.tasksPerSecond/river.jobsPerSecond)
			if err := c.orchestrate(ctx); err != nil {
				return err
			}
			more, err := b.hopChains(ctx, c)
			hops = append(hops, more...)
			return err
		})
		if err != nil {
			return err
		}
	}
	row := Row{
		Name: "10,000 runs of 10, two processes", Value: median(speeds), Unit: "tasks/s", Against: bareRiver,
		Yardstick: median(rivers), Ratio: median(ratios), Rounds: ratios,
	}
	b.add(row.atLeast(2.5), Row{Name: "idle hop, two processes, mean", Value: mean(hops), Unit: "ms"}.atMost(4))
	return nil
}
