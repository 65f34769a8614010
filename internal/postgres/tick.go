package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// A writer that is alone beats seldom: nobody judges it in a hurry.
const quietBeat = 5 * time.Second

// Tick implements engine.Writer.
func (w *Writer) Tick(ctx context.Context) (engine.Tick, error) {
	params := db.TickParams{}
	for _, bucket := range w.buckets {
		params.Buckets = append(params.Buckets, int16(bucket)) //nolint:gosec // 12 bits
		mark := w.mail.marks[bucket]
		params.MarkXids, params.MarkIds = append(params.MarkXids, mark.xid), append(params.MarkIds, mark.id)
	}
	before := time.Now()
	row, err := w.backend.queries.Tick(ctx, w.backend.on(w.backend.pool), params)
	if err != nil {
		w.judge.interrupt()
		w.mail.doubt()
		return engine.Tick{}, fmt.Errorf("tick: %w", interpretError(err))
	}
	w.backend.clock.set(before, row.Now)
	if time.Since(w.beatAt) >= quietBeat {
		if err := w.backend.queries.Beat(ctx, w.backend.on(w.backend.pool), w.writers()); err != nil {
			return engine.Tick{}, fmt.Errorf("beat: %w", interpretError(err))
		}
		w.beatAt = time.Now()
	}
	w.heardOfMail(row.MailBuckets, row.Xmin)
	if err := w.mail.heed(row.ServerStarted, row.Xmin); err != nil {
		return engine.Tick{}, err
	}
	tick := engine.Tick{MailWaits: len(row.MailBuckets) > 0}
	var agents []tickAgent
	if err := json.Unmarshal(row.Agents, &agents); err != nil {
		return tick, fmt.Errorf("read the agents: %w", err)
	}
	lost := w.judge.lost(agents, row.ServerStarted, time.Now())
	if err := w.declareLost(ctx, lost, row.Orphans); err != nil {
		return tick, err
	}
	w.members = 0
	for i := range agents {
		agent := &agents[i]
		if agent.Process != processIdentity() {
			w.members++
		}
		if !lost[agent.Incarnation] {
			tick.Agents = append(tick.Agents, agent.info())
		}
	}
	w.backend.bell.setElsewhere(w.members > 0)
	if row.TimersDue {
		if tick.Due, err = w.dueTimers(ctx, params.Buckets, row.Now.Add(time.Second)); err != nil {
			return tick, err
		}
	}
	return tick, nil
}

// heardOfMail rings the buckets that have mail, and moves the marks of the others, so that the next tick does not
// walk through what was deleted meanwhile.
func (w *Writer) heardOfMail(waiting []int16, xmin uint64) {
	for _, bucket := range waiting {
		w.mail.ring(int(bucket))
	}
	for _, bucket := range w.buckets {
		if !slices.Contains(waiting, int16(bucket)) { //nolint:gosec // 12 bits
			w.mail.move(bucket, mailMark{xid: xmin})
		}
	}
}

// maxDue bounds the timers that one tick reads, in each bucket.
const maxDue = 1000

func (w *Writer) dueTimers(ctx context.Context, buckets []int16, before time.Time) ([]engine.DueTimer, error) {
	rows, err := w.backend.queries.ListDueTimers(ctx, w.backend.on(w.backend.pool), db.ListDueTimersParams{Buckets: buckets, Before: before, Most: maxDue})
	if err != nil {
		return nil, fmt.Errorf("read the timers: %w", interpretError(err))
	}
	due := make([]engine.DueTimer, len(rows))
	for i, row := range rows {
		due[i] = engine.DueTimer{Run: workflow.RunID(row.RunID), Timer: workflow.Timer{Node: row.Node, Kind: workflow.TimerKind(row.Kind), Due: row.Due}}
	}
	return due, nil
}

// declareLost declares agents dead, and tells the writers of what they held. The telling is a sweep: it also
// finds what somebody declared dead who then died.
func (w *Writer) declareLost(ctx context.Context, lost map[int64]bool, orphans bool) error {
	for incarnation := range lost {
		if err := w.backend.endAgent(ctx, incarnation, "lost"); err != nil {
			return fmt.Errorf("declare agent %d lost: %w", incarnation, err)
		}
		w.backend.logger.Warn("an agent is lost; what it ran gets a new attempt", "incarnation", incarnation)
	}
	if len(lost) == 0 && !orphans {
		return nil
	}
	return w.backend.tellLost(ctx)
}

// endAgent takes a registration out. A claim that is under way is waited for; later ones find nothing.
func (b *Backend) endAgent(ctx context.Context, incarnation int64, status string) error {
	p := b.pipeline()
	p.add(func(on db.DBTX) error { return b.queries.LockAgent(ctx, on, incarnation) })
	p.add(func(on db.DBTX) error {
		_, err := b.queries.EndAgent(ctx, on, db.EndAgentParams{Agent: incarnation, Status: status})
		return err //nolint:wrapcheck // wrapped below
	})
	return interpretError(p.send(ctx, b.pool))
}

func (b *Backend) tellLost(ctx context.Context) error {
	buckets, err := b.queries.TellLostDispatches(ctx, b.on(b.pool))
	if err != nil {
		return fmt.Errorf("tell of lost deliveries: %w", interpretError(err))
	}
	for _, bucket := range buckets {
		b.bell.ringMail(int(bucket))
	}
	return nil
}

type tickAgent struct {
	Incarnation int64    `json:"incarnation"`
	AgentID     string   `json:"agent_id"`
	Queues      []string `json:"queues"`
	Tags        []string `json:"tags"`
	Slots       int      `json:"slots"`
	Version     string   `json:"version"`
	Interval    int64    `json:"heartbeat_interval_ms"`
	Process     string   `json:"process"`
	Beat        int64    `json:"beat"`
	Locked      bool     `json:"locked"`
}

func (a *tickAgent) info() engine.AgentInfo {
	return engine.AgentInfo{
		ID: a.AgentID, Queues: a.Queues, Tags: a.Tags, Slots: a.Slots, Version: a.Version,
		HeartbeatInterval: time.Duration(a.Interval) * time.Millisecond,
	}
}

// judge decides which agents are dead: those whose beat did not move over three of their intervals of the
// judge's own unbroken polls. A free session lock is a suspicion that shortens this to a second; after a
// restart of the server all locks are free, so suspicions count for nothing for a while.
// That a process of this host has ended is no suspicion but a proof.
type judge struct {
	started  time.Time // of the server
	polled   time.Time
	quietTo  time.Time
	observed map[int64]*observation
}

type observation struct {
	beat      int64
	since     time.Time // the beat stands still
	suspected time.Time // the lock is free
}

const (
	missedBeats      = 3
	suspicionGrace   = time.Second
	quietAfterServer = 10 * time.Second
	// maxPollGap is the time between two polls above which the judge was itself held up: by a stall of the
	// database, which held the heartbeats up as well, or of its process.
	maxPollGap = 3 * time.Second
)

// interrupt forgets what was observed: a judge that could not look can't say that nothing moved.
func (j *judge) interrupt() { j.observed = nil }

func (j *judge) lost(agents []tickAgent, serverStarted, now time.Time) map[int64]bool {
	if !serverStarted.Equal(j.started) {
		if !j.started.IsZero() {
			j.quietTo = now.Add(quietAfterServer)
			j.interrupt()
		}
		j.started = serverStarted
	}
	if now.Sub(j.polled) > maxPollGap {
		j.interrupt()
	}
	j.polled = now
	if j.observed == nil {
		j.observed = map[int64]*observation{}
	}
	lost, live := map[int64]bool{}, make(map[int64]*observation, len(agents))
	for i := range agents {
		agent := &agents[i]
		seen := j.observed[agent.Incarnation]
		if seen == nil || seen.beat != agent.Beat {
			seen = &observation{beat: agent.Beat, since: now}
		}
		if agent.Locked || now.Before(j.quietTo) {
			seen.suspected = time.Time{}
		} else if seen.suspected.IsZero() {
			seen.suspected = now
		}
		switch {
		case provenDead(agent.Process),
			now.Sub(seen.since) >= missedBeats*time.Duration(agent.Interval)*time.Millisecond,
			!seen.suspected.IsZero() && now.Sub(seen.suspected) >= suspicionGrace:
			lost[agent.Incarnation] = true
		default:
			live[agent.Incarnation] = seen
		}
	}
	j.observed = live
	return lost
}
