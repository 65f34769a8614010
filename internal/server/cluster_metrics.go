package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

const (
	// readTime bounds the reading of the cluster's state for one scrape.
	readTime = 3 * time.Second
	// freshTime is how long a reading is good for, however many scrape.
	freshTime = 2 * time.Second
)

var (
	queueDepth = prometheus.NewDesc("cyclonetix_queue_depth",
		"Task runs that are queued and not yet claimed.", []string{"queue"}, nil)
	queueRunning = prometheus.NewDesc("cyclonetix_queue_running",
		"Task runs that agents hold.", []string{"queue"}, nil)
	queueOldest = prometheus.NewDesc("cyclonetix_queue_oldest_age_seconds",
		"Age of the oldest task run that waits; 0 when none does.", []string{"queue"}, nil)
	queueConsumers = prometheus.NewDesc("cyclonetix_queue_consumers",
		"Live agents that serve the queue.", []string{"queue"}, nil)
	agents = prometheus.NewDesc("cyclonetix_agents",
		"Agents by status.", []string{"status"}, nil)
	agentSlots = prometheus.NewDesc("cyclonetix_agent_slots",
		"Slots of all live agents together.", nil, nil)
	backendUp = prometheus.NewDesc("cyclonetix_backend_up",
		"1 when the backend answered the last time.", nil, nil)
)

// ClusterCollector gives the state of the queues and agents of the whole cluster, as the backend has it.
type ClusterCollector struct {
	reader engine.Reader
	logger *slog.Logger

	mu     sync.Mutex
	readAt time.Time
	queues []engine.QueueView
	agents []engine.AgentView
	err    error
}

// NewClusterCollector makes a collector that reads from reader, at most every two seconds.
func NewClusterCollector(reader engine.Reader, logger *slog.Logger) *ClusterCollector {
	return &ClusterCollector{reader: reader, logger: logger}
}

// Describe implements prometheus.Collector.
func (c *ClusterCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{queueDepth, queueRunning, queueOldest, queueConsumers, agents, agentSlots, backendUp} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *ClusterCollector) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.readAt) > freshTime {
		c.read()
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	if c.err != nil {
		gauge(backendUp, 0)
		return
	}
	gauge(backendUp, 1)
	for i := range c.queues {
		queue := &c.queues[i]
		age := 0.0
		if !queue.Oldest.IsZero() {
			age = max(0, c.readAt.Sub(queue.Oldest).Seconds())
		}
		gauge(queueDepth, float64(queue.Depth), queue.Name)
		gauge(queueRunning, float64(queue.Running), queue.Name)
		gauge(queueOldest, age, queue.Name)
		gauge(queueConsumers, float64(queue.Consumers), queue.Name)
	}
	count, slots := map[string]int{"live": 0, "lost": 0, "stopped": 0}, 0
	for i := range c.agents {
		agent := &c.agents[i]
		count[agent.Status]++
		if agent.Status == "live" {
			slots += agent.Slots
		}
	}
	for status, number := range count {
		gauge(agents, float64(number), status)
	}
	gauge(agentSlots, float64(slots))
}

func (c *ClusterCollector) read() {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	c.queues, c.err = c.reader.Queues(ctx)
	if c.err == nil {
		c.agents, c.err = c.reader.Agents(ctx)
	}
	if c.err != nil {
		c.logger.Warn("queues and agents could not be read for the metrics", "error", c.err)
	}
	c.readAt = time.Now()
}
