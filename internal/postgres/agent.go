package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// agentSession implements engine.AgentSession.
type agentSession struct {
	backend     *Backend
	incarnation int64
	lockKey     int64
	interval    time.Duration
	wake        chan struct{}
	runs        map[workflow.RunID]knownRun
	// lastClaim is when the newest known claim was made, and every later one has a later time, whatever the clock does;
	// uncertain tells that there may be one whose answer was lost.
	lastClaim time.Time
	uncertain bool
	// unresolved are claimed rows whose tasks could not be looked up yet.
	unresolved []db.ClaimDispatchesRow
	// perRow is the number of tasks that deliveries held lately: how many rows make up a number of tasks.
	perRow float64
	// missed is how many claims in a row took nothing, though there was something.
	missed int
}

func joinTags(tags []string) string { return strings.Join(tags, ",") }

func splitTags(joined string) []string {
	if joined == "" {
		return []string{}
	}
	return strings.Split(joined, ",")
}

// OpenAgent implements engine.Backend. An earlier registration with the same id is replaced: it is dead.
func (b *Backend) OpenAgent(ctx context.Context, agent engine.AgentInfo) (engine.AgentSession, error) {
	lockKey := b.bell.hold(ctx, "agent/"+agent.ID+"/"+processIdentity()+"/"+time.Now().String())
	session := &agentSession{
		backend: b, lockKey: lockKey, interval: agent.HeartbeatInterval, wake: make(chan struct{}, 1),
		runs: map[workflow.RunID]knownRun{}, perRow: 1,
	}
	for {
		err := b.replaceAgents(ctx, agent.ID)
		if err == nil {
			err = b.insertAgent(ctx, session, &agent)
		}
		if err == nil {
			break
		}
		if isLiveAgent(err) {
			continue // another registered under this name just now
		}
		b.bell.release(lockKey)
		return nil, fmt.Errorf("register agent %s: %w", agent.ID, interpretError(err))
	}
	b.bell.addAgent(session)
	// The orchestrator learns of the agent at its next tick; until then the agent finds waiting work by itself.
	signal(session.wake)
	return session, nil
}

func (b *Backend) insertAgent(ctx context.Context, session *agentSession, agent *engine.AgentInfo) error {
	tags := slices.Clone(agent.Tags)
	slices.Sort(tags)
	cpu, memory, gpu, disk := columnsOf(agent.Resources)
	return pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) (err error) { //nolint:wrapcheck // the caller looks at it
		session.incarnation, err = b.queries.InsertAgent(ctx, b.on(tx), db.InsertAgentParams{
			AgentID: agent.ID, Queues: append([]string{}, agent.Queues...), Tags: append([]string{}, tags...), Slots: int32(agent.Slots), //nolint:gosec // a small number
			Version: agent.Version, HeartbeatIntervalMs: int32(agent.HeartbeatInterval.Milliseconds()), //nolint:gosec // a small number
			Process: processIdentity(), LockKey: session.lockKey, CpuMillis: cpu, MemoryMb: memory, Gpu: gpu, DiskMb: disk,
		})
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		_, err = b.queries.BeatAgent(ctx, b.on(tx), session.incarnation)
		return err //nolint:wrapcheck // wrapped below
	})
}

// replaceAgents declares earlier registrations with the same id dead.
func (b *Backend) replaceAgents(ctx context.Context, id string) error {
	earlier, err := b.queries.ListLiveAgents(ctx, b.on(b.pool), id)
	if err != nil {
		return fmt.Errorf("look for an earlier one: %w", interpretError(err))
	}
	for _, incarnation := range earlier {
		if err := b.endAgent(ctx, incarnation, "lost"); err != nil {
			return fmt.Errorf("declare the earlier one dead: %w", err)
		}
		b.logger.Warn("an agent registers anew; what its former life ran gets a new attempt", "agent", id, "incarnation", incarnation)
	}
	if len(earlier) == 0 {
		return nil
	}
	return b.tellLost(ctx)
}

// Incarnation implements engine.AgentSession.
func (s *agentSession) Incarnation() int64 { return s.incarnation }

// Wake implements engine.AgentSession.
func (s *agentSession) Wake() <-chan struct{} { return s.wake }

func (s *agentSession) ring() { signal(s.wake) }

// Poll implements engine.AgentSession. In the writer's process a ring can't be lost.
func (s *agentSession) Poll() time.Duration {
	if s.backend.bell.local() {
		return 5 * time.Second
	}
	return time.Second
}

// Claim implements engine.AgentSession.
func (s *agentSession) Claim(ctx context.Context, want, slack int, free workflow.Resources) (engine.Claim, error) {
	var orders []db.ListOrdersRow
	if s.uncertain {
		if err := s.recoverClaims(ctx); err != nil {
			return engine.Claim{}, err
		}
	}
	if len(s.unresolved) == 0 {
		var err error
		if orders, err = s.claim(ctx, want, slack, free); err != nil {
			return engine.Claim{}, err
		}
	}
	deliveries, err := s.resolve(ctx, s.unresolved)
	if err != nil {
		return engine.Claim{}, err
	}
	s.unresolved = nil
	return engine.Claim{Deliveries: deliveries, Orders: ordersOf(orders)}, nil
}

func (s *agentSession) claim(ctx context.Context, want, slack int, free workflow.Resources) (orders []db.ListOrdersRow, err error) {
	var rows []db.ClaimDispatchesRow
	q, p := s.backend.queries, s.backend.pipeline()
	// One row more than should do, so that the last one tells whether there is more.
	cpu, memory, gpu, disk := columnsOf(free)
	params := db.ClaimDispatchesParams{
		Agent: s.incarnation, Want: int32(want), Slack: int32(slack), Most: int32(float64(want)/s.perRow) + 1, After: s.lastClaim, //nolint:gosec // small numbers
		FreeCpu: cpu, FreeMemory: memory, FreeGpu: gpu, FreeDisk: disk,
		FromID: s.backend.claims.begin(time.Now()),
	}
	p.add(func(on db.DBTX) (err error) {
		rows, err = q.ClaimDispatches(ctx, on, params)
		return err
	})
	p.add(func(on db.DBTX) (err error) {
		orders, err = q.ListOrders(ctx, on, s.incarnation)
		return err
	})
	if err := interpretError(p.send(ctx, s.backend.pool)); err != nil {
		s.uncertain = errors.Is(err, engine.ErrUncertain)
		s.backend.claims.forget()
		return nil, fmt.Errorf("claim: %w", err)
	}
	if len(rows) == 0 {
		if err := s.whyNothing(ctx, &params); err != nil {
			return nil, err
		}
	} else {
		s.missed = 0
	}
	s.unresolved = rows
	taken := 0
	for i := range rows {
		taken += int(rows[i].N)
		s.lastClaim = rows[i].ClaimedAt
	}
	if len(rows) > 0 {
		s.perRow = max(1, (s.perRow+float64(taken)/float64(len(rows)))/2)
		if taken < want && len(rows) >= int(params.Most) {
			signal(s.wake) // there may be more
		}
	}
	s.backend.moveMark(ctx, rows)
	return orders, nil
}

// mostMissed is how often in a row a claim that took nothing, because others held all that there was, is made again at once.
const mostMissed = 3

// whyNothing looks why a claim took nothing. A claim locks more than it takes, of each class as much as would do: who comes
// meanwhile finds nothing, and claims again.
func (s *agentSession) whyNothing(ctx context.Context, claim *db.ClaimDispatchesParams) error {
	why, err := s.backend.queries.AskWhyNothing(ctx, s.backend.on(s.backend.pool), db.AskWhyNothingParams{
		Agent: claim.Agent, FromID: claim.FromID, FreeCpu: claim.FreeCpu, FreeMemory: claim.FreeMemory, FreeGpu: claim.FreeGpu, FreeDisk: claim.FreeDisk,
	})
	if err == nil && !why.Live {
		err = engine.ErrAgentLost
	}
	if err != nil {
		return fmt.Errorf("claim of agent %d: %w", s.incarnation, interpretError(err))
	}
	if s.missed++; !why.Waits || s.missed > mostMissed {
		s.missed = 0
		return nil
	}
	signal(s.wake)
	return nil
}

// First implements engine.AgentSession.
func (s *agentSession) First(ctx context.Context) (first engine.FirstWaiting, found bool, err error) {
	rows, err := s.backend.queries.GetFirstWithResources(ctx, s.backend.on(s.backend.pool), s.incarnation)
	if err != nil {
		return first, false, fmt.Errorf("look for the first delivery with resources: %w", interpretError(err))
	}
	for _, row := range rows { // one at most
		first.Resources = resourcesOf(row.CpuMillis, row.MemoryMb, row.Gpu, row.DiskMb)
		first.Waited = time.Duration(row.Waited * float64(time.Second))
	}
	return first, len(rows) > 0, nil
}

// recoverClaims finds what was claimed by a statement whose answer was lost, after waiting for its end.
func (s *agentSession) recoverClaims(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, s.backend.pool, func(tx pgx.Tx) error {
		if err := s.backend.queries.LockAgent(ctx, s.backend.on(tx), s.incarnation); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		status, err := s.backend.queries.GetAgentStatus(ctx, s.backend.on(tx), s.incarnation)
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		if status != "live" {
			return engine.ErrAgentLost
		}
		rows, err := s.backend.queries.ListClaimedAfter(ctx, s.backend.on(tx), db.ListClaimedAfterParams{Agent: s.incarnation, After: s.lastClaim})
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		for _, row := range rows {
			s.unresolved = append(s.unresolved, db.ClaimDispatchesRow(row))
			s.lastClaim = row.ClaimedAt
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for what was claimed: %w", interpretError(err))
	}
	s.uncertain = false
	return nil
}

// resolve finds what is needed to run the members: their specifications, and what their runs share. Members for which
// that is damaged have failed, so that they hold up nothing else.
func (s *agentSession) resolve(ctx context.Context, rows []db.ClaimDispatchesRow) ([]engine.ClaimedDelivery, error) {
	if len(s.runs) > maxKnownRuns {
		clear(s.runs)
	}
	rows, unpacked, err := s.unpack(ctx, rows)
	if err != nil {
		return nil, err
	}
	var hashes []workflow.Hash
	var unknown []knownRun
	for i := range rows {
		row := &rows[i]
		for _, spec := range row.Specs {
			hashes = append(hashes, workflow.Hash(spec))
		}
		for number, run := range row.Runs {
			id := workflow.RunID(run)
			wanted := versionAt(row.Versions, number)
			if known, ok := s.runs[id]; ok && known.version >= wanted {
				continue
			}
			if wanted > 0 {
				former := s.runs[id]
				if former.version == 0 {
					former.RunInfo = &engine.RunInfo{ID: id}
				}
				delete(s.runs, id)
				unknown = append(unknown, former)
			} else {
				s.runs[id] = knownRun{RunInfo: &engine.RunInfo{ID: id, Name: id.String(), DAG: row.Dags[number], Values: &workflow.RunValues{}}}
			}
		}
	}
	specs, err := s.backend.taskSpecs(ctx, hashes)
	if err != nil {
		return nil, err
	}
	if err := s.loadRuns(ctx, unknown); err != nil {
		return nil, err
	}
	deliveries := make([]engine.ClaimedDelivery, 0, len(rows))
	for i := range rows {
		row, members := &rows[i], unpacked[i]
		delivery := engine.ClaimedDelivery{ID: row.ID, ReplyTo: int(row.ReplyTo), ClaimedAt: row.ClaimedAt.UTC(), Tasks: make([]engine.ClaimedTask, 0, len(members))}
		broken := engine.Report{ReplyTo: int(row.ReplyTo), Agent: s.incarnation}
		for number := range members {
			member := &members[number]
			spec, run := specs[member.Spec], s.runs[member.Run].RunInfo
			if spec == nil || run == nil {
				broken.Ends = append(broken.Ends, s.brokenEnd(member, delivery.ClaimedAt))
				continue
			}
			delivery.Tasks = append(delivery.Tasks, engine.ClaimedTask{Member: member.Member, Spec: spec, Run: run})
		}
		if len(delivery.Tasks) > 0 {
			deliveries = append(deliveries, delivery)
		} else {
			broken.Done = []int64{row.ID}
		}
		if len(broken.Ends) > 0 {
			if err := s.Report(ctx, &broken, nil, nil); err != nil {
				return nil, err
			}
		}
	}
	return deliveries, nil
}

// unpack gives the members of what was claimed, by row. A row that is damaged is left out; its writer is told, who
// queues what it held anew.
func (s *agentSession) unpack(ctx context.Context, rows []db.ClaimDispatchesRow) (whole []db.ClaimDispatchesRow, members [][]engine.DispatchMember, err error) {
	whole, members = make([]db.ClaimDispatchesRow, 0, len(rows)), make([][]engine.DispatchMember, 0, len(rows))
	var damaged []int64
	for i := range rows {
		row := &rows[i]
		unpacked, err := unpackMembers(row.Runs, row.Dags, row.Versions, row.Specs, row.Members)
		if err != nil {
			s.backend.logger.Error("a delivery can't be read and is given back", "delivery", row.ID, "error", err)
			damaged = append(damaged, row.ID)
			continue
		}
		whole, members = append(whole, *row), append(members, unpacked)
	}
	if len(damaged) == 0 {
		return whole, members, nil
	}
	buckets, err := s.backend.queries.LoseDispatches(ctx, s.backend.on(s.backend.pool), db.LoseDispatchesParams{Agent: s.incarnation, IDs: damaged})
	if err != nil {
		return nil, nil, fmt.Errorf("give damaged deliveries back: %w", interpretError(err))
	}
	for _, bucket := range buckets {
		s.backend.bell.ringMail(int(bucket))
	}
	return whole, members, nil
}

// maxKnownRuns is the number of runs that a session remembers; beyond it, it begins anew.
const maxKnownRuns = 20_000

func (s *agentSession) brokenEnd(member *engine.DispatchMember, at time.Time) engine.End {
	s.backend.logger.Error("what a task run needs is not stored, so it fails", "task_run", workflow.TaskRunID(member.Run, member.Node))
	return engine.End{Member: member.Member, Result: workflow.Result{
		Status: workflow.TaskFailed, Cause: workflow.CauseStart, EndTime: at, Agent: s.incarnation,
		Reason: "the specification of the task or the values of the run are missing or damaged in the database",
	}}
}

// loadRuns takes note of what is new of runs that have values or a name. One that can't be read stays unknown.
func (s *agentSession) loadRuns(ctx context.Context, runs []knownRun) error {
	if len(runs) == 0 {
		return nil
	}
	var params db.LoadRunInfosParams
	former := make(map[db.UUID]knownRun, len(runs))
	for _, run := range runs {
		if id := db.UUID(run.ID); former[id].RunInfo == nil {
			former[id] = run
			params.RunIDs, params.KnownVersions = append(params.RunIDs, id), append(params.KnownVersions, run.version)
		}
	}
	params.Least, params.Greatest = boundsOf(params.RunIDs)
	rows, err := s.backend.queries.LoadRunInfos(ctx, s.backend.on(s.backend.pool), params)
	if err != nil {
		return fmt.Errorf("load the values of runs: %w", interpretError(err))
	}
	for i := range rows {
		info, err := former[rows[i].RunID].add(&rows[i])
		if err != nil {
			s.backend.logger.Error("the values of a run can't be read", "run", workflow.RunID(rows[i].RunID), "error", err)
			continue
		}
		s.runs[info.ID] = info
	}
	return nil
}

// Outputs implements engine.AgentSession.
func (s *agentSession) Outputs(ctx context.Context, run workflow.RunID, tasks []string) (map[string]workflow.Value, error) {
	return s.backend.outputs(ctx, run, tasks)
}

// LiveRuns implements engine.AgentSession.
func (s *agentSession) LiveRuns(ctx context.Context, runs []workflow.RunID) ([]workflow.RunID, error) {
	params := db.ListLiveRunsAmongParams{Buckets: make([]int16, len(runs)), RunIDs: make([]db.UUID, len(runs))}
	for i, run := range runs {
		params.Buckets[i], params.RunIDs[i] = int16(run.Bucket()), db.UUID(run) //nolint:gosec // 12 bits
	}
	rows, err := s.backend.queries.ListLiveRunsAmong(ctx, s.backend.on(s.backend.pool), params)
	if err != nil {
		return nil, fmt.Errorf("look which runs live: %w", interpretError(err))
	}
	live := make([]workflow.RunID, len(rows))
	for i, row := range rows {
		live[i] = workflow.RunID(row)
	}
	return live, nil
}

func ordersOf(rows []db.ListOrdersRow) []engine.Order {
	orders := make([]engine.Order, 0, len(rows))
	for _, row := range rows {
		orders = append(orders, engine.Order{ID: row.ID, Kind: engine.OrderKind(row.Kind), Member: workflow.Member{
			Run: workflow.RunID(row.RunID), Node: row.Node, Attempt: uint16(row.Attempt), Delivery: uint16(row.Delivery), //nolint:gosec // checked in the schema
		}})
	}
	return orders
}

// Beat implements engine.AgentSession.
func (s *agentSession) Beat(ctx context.Context) ([]engine.Order, error) {
	var beaten int64
	var orders []db.ListOrdersRow
	q, p := s.backend.queries, s.backend.pipeline()
	p.add(func(on db.DBTX) (err error) {
		beaten, err = q.BeatAgent(ctx, on, s.incarnation)
		return err
	})
	p.add(func(on db.DBTX) (err error) {
		orders, err = q.ListOrders(ctx, on, s.incarnation)
		return err
	})
	if err := p.send(ctx, s.backend.pool); err != nil {
		return nil, fmt.Errorf("beat: %w", interpretError(err))
	}
	if beaten == 0 {
		return nil, fmt.Errorf("beat of agent %d: %w", s.incarnation, engine.ErrAgentLost)
	}
	return ordersOf(orders), nil
}

// Report implements engine.AgentSession.
func (s *agentSession) Report(ctx context.Context, report *engine.Report, logs []engine.LogChunk, orders []int64) error {
	q, p := s.backend.queries, s.backend.pipeline()
	if len(logs) > 0 {
		rows := logRows(logs)
		p.add(func(on db.DBTX) error { return q.InsertLogs(ctx, on, rows) })
	}
	if len(orders) > 0 {
		p.add(func(on db.DBTX) error { return q.DeleteOrders(ctx, on, orders) })
	}
	tells := len(report.Done)+len(report.Ends)+len(report.Returns) > 0
	if tells {
		params := db.InsertReportParams{Bucket: int16(report.ReplyTo), Body: packReport(report)} //nolint:gosec // 12 bits
		p.add(func(on db.DBTX) error { return q.InsertReport(ctx, on, params) })
	}
	if len(p.steps) == 0 {
		return nil
	}
	err := s.backend.retryMissingPartition(ctx, func() error { return interpretError(p.send(ctx, s.backend.pool)) })
	if isMissingPartition(err) {
		// Retention has dropped the run: there is no place for its logs any more.
		s.backend.logger.Warn("logs come too late and are thrown away", "error", err)
		return s.Report(ctx, report, nil, orders)
	}
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if tells {
		s.backend.bell.ringMail(report.ReplyTo)
	}
	return nil
}

// WriteLogs implements engine.AgentSession. These chunks were never acknowledged to anyone, so
// they need not be on disk before the next ones.
func (s *agentSession) WriteLogs(ctx context.Context, logs []engine.LogChunk) error {
	if len(logs) == 0 {
		return nil
	}
	err := s.backend.retryMissingPartition(ctx, func() error {
		return interpretError(pgx.BeginFunc(ctx, s.backend.logPool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SELECT set_config('synchronous_commit', 'off', true)"); err != nil {
				return err //nolint:wrapcheck // wrapped below
			}
			return s.backend.queries.InsertLogs(ctx, s.backend.on(tx), logRows(logs))
		}))
	})
	if isMissingPartition(err) {
		s.backend.logger.Warn("logs come too late and are thrown away", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("write logs: %w", err)
	}
	return nil
}

func logRows(logs []engine.LogChunk) db.InsertLogsParams {
	var rows db.InsertLogsParams
	for i := range logs {
		chunk := &logs[i]
		rows.RunIDs, rows.Nodes = append(rows.RunIDs, db.UUID(chunk.Run)), append(rows.Nodes, chunk.Node)
		rows.Attempts = append(rows.Attempts, int16(chunk.Attempt)) //nolint:gosec // checked in the schema
		rows.Streams, rows.Seqs = append(rows.Streams, int16(chunk.Stream)), append(rows.Seqs, chunk.Seq)
		rows.Ats, rows.Bodies = append(rows.Ats, chunk.Time), append(rows.Bodies, chunk.Body)
	}
	return rows
}

// Close implements engine.AgentSession.
func (s *agentSession) Close(ctx context.Context) error {
	s.backend.bell.removeAgent(s)
	defer s.backend.bell.release(s.lockKey)
	if err := s.backend.endAgent(ctx, s.incarnation, "stopped"); err != nil {
		return fmt.Errorf("take agent %d out: %w", s.incarnation, err)
	}
	return s.backend.tellLost(ctx)
}
