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

// sweepEvery is how often deliveries are looked for whose agent was declared dead by somebody who died before
// telling of them. That reads all of the table, which an old snapshot makes long.
const sweepEvery = 5 * time.Second

// Tick implements engine.Writer.
func (w *Writer) Tick(ctx context.Context) (engine.Tick, error) { return w.group.tick(ctx, w) }

// tick asks for all writers, unless one of the others just did.
func (g *writerGroup) tick(ctx context.Context, w *Writer) (engine.Tick, error) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	news, known := g.heard[w]
	delete(g.heard, w)
	if !known || time.Since(news.since) > heardFor || news.mail.reading != w.mail.readings() {
		all, err := g.ask(ctx)
		if err != nil {
			return engine.Tick{}, err
		}
		news = all[w]
		delete(all, w)
		g.heard = all
	}
	if !news.living {
		return engine.Tick{}, fmt.Errorf("tick of writer %d: %w", w.number, engine.ErrFenced)
	}
	if err := w.mail.hear(&news.mail); err != nil {
		return engine.Tick{}, fmt.Errorf("tick of writer %d: %w", w.number, err)
	}
	return news.tick, nil
}

// ask finds out what there is to know for each writer, and what has to be done for all is done.
func (g *writerGroup) ask(ctx context.Context) (map[*Writer]heard, error) {
	b, params := g.backend, db.TickParams{Writers: g.numbers(), Sweep: time.Since(g.sweptAt) >= sweepEvery}
	all := make(map[*Writer]heard, len(g.open))
	for w := range g.open {
		all[w] = heard{since: time.Now(), mail: w.mail.ask(&params, w.buckets)}
	}
	before := time.Now()
	row, err := b.queries.Tick(ctx, b.on(b.pool), params)
	if err != nil {
		g.judge.interrupt()
		for w := range g.open {
			w.mail.doubt()
		}
		return nil, fmt.Errorf("tick: %w", interpretError(err))
	}
	b.clock.set(before, row.Now)
	if time.Since(g.beatAt) >= quietBeat {
		if err := b.queries.Beat(ctx, b.on(b.pool), row.Living); err != nil {
			return nil, fmt.Errorf("beat: %w", interpretError(err))
		}
		g.beatAt = time.Now()
	}
	agents, err := g.judgeAgents(ctx, &row)
	if err != nil {
		g.sweptAt = time.Time{} // somebody may have been declared dead, and nobody told
		return nil, err
	}
	if params.Sweep {
		g.sweptAt = time.Now()
	}
	var due []engine.DueTimer
	if row.TimersDue {
		if due, err = b.dueTimers(ctx, params.Buckets, row.Now.Add(time.Second)); err != nil {
			return nil, err
		}
	}
	for w, news := range all {
		news.living = slices.Contains(row.Living, w.number)
		news.tick.Agents = agents
		for _, timer := range due {
			if g.of(timer.Run.Bucket()) == w {
				news.tick.Due = append(news.tick.Due, timer)
			}
		}
		news.mail.started, news.mail.xmin = row.ServerStarted, row.Xmin
		for _, bucket := range row.MailBuckets {
			if g.of(int(bucket)) == w {
				news.mail.waiting = append(news.mail.waiting, int(bucket))
			}
		}
		news.tick.MailWaits = len(news.mail.waiting) > 0
		all[w] = news
	}
	return all, nil
}

// judgeAgents gives the agents that live, and sees to those that do not any more.
func (g *writerGroup) judgeAgents(ctx context.Context, row *db.TickRow) ([]engine.AgentInfo, error) {
	var agents []tickAgent
	if err := json.Unmarshal(row.Agents, &agents); err != nil {
		return nil, fmt.Errorf("read the agents: %w", err)
	}
	lost := g.judge.lost(agents, row.ServerStarted, time.Now())
	if err := g.backend.declareLost(ctx, lost, row.Orphans); err != nil {
		return nil, err
	}
	var living []engine.AgentInfo
	elsewhere := false
	for i := range agents {
		agent := &agents[i]
		elsewhere = elsewhere || agent.Process != processIdentity()
		if !lost[agent.Incarnation] {
			living = append(living, agent.info())
		}
	}
	g.backend.bell.setElsewhere(elsewhere)
	return living, nil
}

// maxDue bounds the timers that one tick reads, in each bucket.
const maxDue = 1000

func (b *Backend) dueTimers(ctx context.Context, buckets []int16, before time.Time) ([]engine.DueTimer, error) {
	rows, err := b.queries.ListDueTimers(ctx, b.on(b.pool), db.ListDueTimersParams{Buckets: buckets, Before: before, Most: maxDue})
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
func (b *Backend) declareLost(ctx context.Context, lost map[int64]bool, orphans bool) error {
	for incarnation := range lost {
		if err := b.endAgent(ctx, incarnation, "lost"); err != nil {
			return fmt.Errorf("declare agent %d lost: %w", incarnation, err)
		}
		b.logger.Warn("an agent is lost; what it ran gets a new attempt", "incarnation", incarnation)
	}
	if len(lost) == 0 && !orphans {
		return nil
	}
	return b.tellLost(ctx)
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
	CPU         int32    `json:"cpu_millis"`
	MemoryMB    int32    `json:"memory_mb"`
	GPU         int32    `json:"gpu"`
	DiskMB      int32    `json:"disk_mb"`
	Version     string   `json:"version"`
	Interval    int64    `json:"heartbeat_interval_ms"`
	Process     string   `json:"process"`
	Beat        int64    `json:"beat"`
	Locked      bool     `json:"locked"`
}

func (a *tickAgent) info() engine.AgentInfo {
	return engine.AgentInfo{
		ID: a.AgentID, Queues: a.Queues, Tags: a.Tags, Slots: a.Slots, Resources: resourcesOf(a.CPU, a.MemoryMB, a.GPU, a.DiskMB), Version: a.Version,
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
