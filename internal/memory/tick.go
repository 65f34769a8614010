package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// missedBeats is the number of intervals in which the beat of an agent must move.
const missedBeats = 3

// brokenPoll is the time between two polls after which the judge does not trust what it saw before: it
// was held up itself, and the agents may have been too.
const brokenPoll = 5 * time.Second

// judge watches the beats of agents.
type judge struct {
	polled time.Time
	seen   map[int64]seenBeat
}

type seenBeat struct {
	beat  int64
	since time.Time // when it was first seen so
}

// lost tells whether the agent's beat did not move over three of its intervals.
func (j *judge) lost(agent *session, at time.Time) bool {
	last, known := j.seen[agent.incarnation]
	if !known || last.beat != agent.beat {
		j.seen[agent.incarnation] = seenBeat{agent.beat, at}
		return false
	}
	return at.Sub(last.since) >= missedBeats*agent.info.HeartbeatInterval
}

// poll begins a round of judgements.
func (j *judge) poll(at time.Time) {
	if j.seen == nil || at.Sub(j.polled) > brokenPoll {
		j.seen = map[int64]seenBeat{}
	}
	j.polled = at
}

// Tick implements engine.Writer.
func (w *Writer) Tick(ctx context.Context) (engine.Tick, error) {
	b := w.backend
	if err := b.lock(ctx); err != nil {
		return engine.Tick{}, fmt.Errorf("tick: %w", err)
	}
	defer b.mutex.Unlock()
	if err := w.fence(); err != nil {
		return engine.Tick{}, fmt.Errorf("tick: %w", err)
	}
	now := b.now()
	w.judge.poll(now)
	var tick engine.Tick
	for _, agent := range b.sortedAgents() {
		if agent.status == agentLive && w.judge.lost(agent, now) {
			agent.end(agentLost, now)
		}
		if agent.status == agentLive {
			tick.Agents = append(tick.Agents, agent.info)
		} else {
			delete(w.judge.seen, agent.incarnation)
		}
	}
	b.tellLost()
	for key, due := range b.timers {
		if !due.After(now.Add(time.Second)) {
			tick.Due = append(tick.Due, engine.DueTimer{Run: key.run, Timer: workflow.Timer{Node: key.node, Kind: key.kind, Due: due}})
		}
	}
	slices.SortFunc(tick.Due, func(one, other engine.DueTimer) int { return one.Due.Compare(other.Due) })
	if tick.MailWaits = w.mailWaits(); tick.MailWaits {
		w.ringAll()
	}
	return tick, nil
}
