package server_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/server"
)

// cluster is a reader of one queue and some agents.
type cluster struct {
	engine.Reader

	reads atomic.Int32
	err   error
}

func (c *cluster) Queues(context.Context) ([]engine.QueueView, error) {
	c.reads.Add(1)
	return []engine.QueueView{{Name: "default", Depth: 7, Running: 2, Consumers: 1, Oldest: time.Now().Add(-time.Hour)}}, c.err
}

func (c *cluster) Agents(context.Context) ([]engine.AgentView, error) {
	return []engine.AgentView{{ID: "a", Status: "live", Slots: 4}, {ID: "b", Status: "lost", Slots: 8}}, c.err
}

func TestClusterMetrics(t *testing.T) {
	t.Parallel()
	reader := &cluster{}
	metrics := server.NewMetrics("v1", server.NewClusterCollector(reader, slog.New(slog.DiscardHandler)))
	s := start(t, &fake{}, func(o *server.Options) { o.Metrics = metrics })
	for range 3 { // scrapes that come close together share a reading
		text := do(s, request("GET", "/metrics", "")).Body.String()
		for _, wanted := range []string{
			`cyclonetix_queue_depth{queue="default"} 7`, `cyclonetix_queue_running{queue="default"} 2`, `cyclonetix_queue_consumers{queue="default"} 1`,
			`cyclonetix_queue_oldest_age_seconds{queue="default"} 36`, `cyclonetix_agents{status="live"} 1`, `cyclonetix_agents{status="lost"} 1`,
			`cyclonetix_agents{status="stopped"} 0`, `cyclonetix_agent_slots 4`, `cyclonetix_backend_up 1`,
		} {
			if !strings.Contains(text, wanted) {
				t.Errorf("there is no %s in\n%s", wanted, text)
			}
		}
	}
	if reads := reader.reads.Load(); reads != 1 {
		t.Errorf("the backend was read %d times", reads)
	}
}

func TestClusterMetricsWithoutTheBackend(t *testing.T) {
	t.Parallel()
	reader := &cluster{err: errors.New("connection refused")}
	metrics := server.NewMetrics("v1", server.NewClusterCollector(reader, slog.New(slog.DiscardHandler)))
	s := start(t, &fake{}, func(o *server.Options) { o.Metrics = metrics })
	answer := do(s, request("GET", "/metrics", ""))
	if text := answer.Body.String(); answer.Code != 200 || !strings.Contains(text, "cyclonetix_backend_up 0") || strings.Contains(text, "cyclonetix_queue_depth{") {
		t.Errorf("%d\n%s", answer.Code, text)
	}
}
