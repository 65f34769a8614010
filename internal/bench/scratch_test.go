package bench

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/agent"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestScratch(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	c, err := newCluster(ctx, "postgres://postgres@localhost/dev1?host=/tmp&port=5599", logger)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { t.Log(c.close(context.Background())) }()
	measure := func(name string, count int, plan *workflow.Plan) {
		since := c.backend.Now()
		begin := time.Now()
		if err := c.submit(ctx, count, submission(name, plan)); err != nil {
			t.Fatal(err)
		}
		t.Log(name, "submitted", time.Since(begin))
		if err := c.orchestrate(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.work(ctx, agent.Noop(), 64); err != nil {
			t.Fatal(err)
		}
		begin = time.Now()
		if err := c.await(ctx); err != nil {
			t.Fatal(err)
		}
		wall := time.Since(begin)
		d, err := c.span(ctx, count*len(plan.Nodes), since)
		t.Log(name, d, err, wall, float64(count*len(plan.Nodes))/d.Seconds())
		if err := c.halt(); err != nil {
			t.Fatal(err)
		}
	}
	measure("one", 1, fan(8, ""))
	measure("fan", 10000, fan(8, ""))
	measure("wide", 1, fan(20000-2, ""))
	measure("chains", 200, chain(100, ""))
	measure("hop", 1, chain(100, ""))
}
