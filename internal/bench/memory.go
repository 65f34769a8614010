package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/agent"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/orchestrator"
	"github.com/cyclonetix/cyclonetix/internal/postgres"
)

const (
	memoryTasks = 100_000
	settleTime  = 10 * time.Second
	nobodys     = "nobodys" // a queue that no agent serves
)

// memory submits a run of 100,000 tasks of which only the first can run, and looks at a process with orchestrator
// and agent ten seconds after it took the run up.
func memory(ctx context.Context, b *bencher) error {
	return b.with(ctx, func(c *cluster) (err error) {
		plan := fan(b.scaled(memoryTasks)-2, "true")
		plan.Specs[1].Queue = nobodys
		if err := c.submit(ctx, 1, submission("memory", plan)); err != nil {
			return err
		}
		looked, err := c.startChild(ctx, "memory")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, looked.stop()) }()
		line, err := looked.line()
		if err != nil {
			return err
		}
		megabytes, err := strconv.ParseFloat(line, 64)
		if err != nil {
			return fmt.Errorf("read the memory of the process: %w", err)
		}
		b.add(Row{Name: "resident memory, one unfinished run of 100,000 tasks", Value: megabytes, Unit: "MB"}.atMost(400))
		return nil
	})
}

// memoryChild prints the resident memory of this process, in MB, once all but the first task are queued and time has passed.
func memoryChild(ctx context.Context, backend *postgres.Backend, logger *slog.Logger) error {
	failed := make(chan error, 2)
	go func() {
		failed <- orchestrator.New(backend, orchestrator.Options{ID: "bench", Logger: logger}).Run(ctx, nil)
	}()
	worker, err := agent.New(agent.Options{
		Open: backend.OpenAgent, Executor: agent.Noop(), Logger: logger,
		Info: engine.AgentInfo{ID: "bench-memory", Queues: []string{"default"}, Slots: slots, Version: "bench"},
	})
	if err != nil {
		return fmt.Errorf("make the agent: %w", err)
	}
	go func() { failed <- worker.Run(ctx) }()
	fmt.Println("ready")
	for {
		queues, err := backend.Queues(ctx)
		if err != nil {
			return fmt.Errorf("look at the queues: %w", err)
		}
		depth := 0
		for _, queue := range queues {
			if queue.Name == nobodys {
				depth = queue.Depth
			}
		}
		runs, err := backend.Runs(ctx, engine.RunFilter{Limit: 1})
		if err != nil {
			return fmt.Errorf("look at the run: %w", err)
		}
		if len(runs.Runs) == 1 && depth >= runs.Runs[0].TaskCount-2 {
			break
		}
		select {
		case err := <-failed:
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
	select {
	case err := <-failed:
		return err
	case <-time.After(settleTime):
	}
	megabytes, err := residentMemory()
	if err != nil {
		return err
	}
	fmt.Printf("%.1f\n", megabytes)
	<-ctx.Done()
	return errors.Join(<-failed, <-failed)
}

// residentMemory is VmRSS of this process in MB.
func residentMemory() (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read the memory of this process (it takes Linux): %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				return 0, fmt.Errorf("read the memory of this process: %w", err)
			}
			return kilobytes / 1024, nil
		}
	}
	return 0, errors.New("read the memory of this process: it is not told")
}
