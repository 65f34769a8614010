package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The states of an agent.
const (
	agentLive    = "live"
	agentStopped = "stopped"
	agentLost    = "lost"
)

// session implements engine.AgentSession, and is what is stored of a registration.
type session struct {
	backend     *Backend
	info        engine.AgentInfo
	incarnation int64
	wake        chan struct{}

	status       string
	registeredAt time.Time
	endedAt      time.Time
	beat         int64
	beatAt       time.Time
}

type order struct {
	engine.Order
	agent int64
}

// agentPoll is how long an idle agent may sleep: in one process a ring is never lost.
const agentPoll = 5 * time.Second

// OpenAgent implements engine.Backend. An earlier registration with the same id is replaced: it is dead.
func (b *Backend) OpenAgent(ctx context.Context, agent engine.AgentInfo) (engine.AgentSession, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("register agent %s: %w", agent.ID, err)
	}
	defer b.mutex.Unlock()
	if agent.Slots < 1 || agent.HeartbeatInterval <= 0 {
		return nil, fmt.Errorf("register agent %s: %w", agent.ID, refuse("it has %d slots and the interval %v", agent.Slots, agent.HeartbeatInterval))
	}
	now := b.now()
	for _, earlier := range b.agents {
		if earlier.info.ID == agent.ID && earlier.status == agentLive {
			earlier.end(agentLost, now)
		}
	}
	b.tellLost()
	agent.Queues, agent.Tags = slices.Clone(agent.Queues), slices.Clone(agent.Tags)
	s := &session{
		backend: b, info: agent, incarnation: b.number(), wake: make(chan struct{}, 1),
		status: agentLive, registeredAt: now, beat: 1, beatAt: now,
	}
	b.agents[s.incarnation] = s
	signal(s.wake)
	return s, nil
}

// end takes the agent out. Its orders are pointless now.
func (s *session) end(status string, at time.Time) {
	s.status, s.endedAt = status, at
	maps.DeleteFunc(s.backend.orders, func(_ int64, o order) bool { return o.agent == s.incarnation })
	signal(s.wake)
}

// live errs when the agent was declared dead, or closed.
func (s *session) live() error {
	if s.status != agentLive {
		return fmt.Errorf("agent %s (%d): %w", s.info.ID, s.incarnation, engine.ErrAgentLost)
	}
	return nil
}

// serves tells whether the agent may run tasks of the class.
func (s *session) serves(class engine.Class) bool {
	if !class.Resources.Fit(s.info.Resources) || len(s.info.Queues) > 0 && !slices.Contains(s.info.Queues, class.Queue) {
		return false
	}
	if class.Requires == "" {
		return true
	}
	for tag := range strings.SplitSeq(class.Requires, ",") {
		if !slices.Contains(s.info.Tags, tag) {
			return false
		}
	}
	return true
}

// Incarnation implements engine.AgentSession.
func (s *session) Incarnation() int64 { return s.incarnation }

// Wake implements engine.AgentSession.
func (s *session) Wake() <-chan struct{} { return s.wake }

// Poll implements engine.AgentSession.
func (s *session) Poll() time.Duration { return agentPoll }

// Claim implements engine.AgentSession.
func (s *session) Claim(ctx context.Context, want, slack int, free workflow.Resources) (engine.Claim, error) {
	if err := s.backend.lock(ctx); err != nil {
		return engine.Claim{}, fmt.Errorf("claim: %w", err)
	}
	defer s.backend.mutex.Unlock()
	if err := s.live(); err != nil {
		return engine.Claim{}, fmt.Errorf("claim: %w", err)
	}
	claim := engine.Claim{Orders: s.orders()}
	infos := map[workflow.RunID]*engine.RunInfo{}
	for _, taken := range s.backend.claim(s, want, slack, free, s.backend.now()) {
		delivery := engine.ClaimedDelivery{ID: taken.ID, ReplyTo: taken.replyTo, ClaimedAt: taken.claimedAt}
		for _, member := range taken.Members {
			info := infos[member.Run]
			if info == nil {
				info = s.backend.runInfo(member)
				infos[member.Run] = info
			}
			delivery.Tasks = append(delivery.Tasks, engine.ClaimedTask{Member: member.Member, Spec: s.backend.specs[member.Spec], Run: info})
		}
		claim.Deliveries = append(claim.Deliveries, delivery)
	}
	return claim, nil
}

// First implements engine.AgentSession.
func (s *session) First(ctx context.Context) (first engine.FirstWaiting, found bool, err error) {
	if err := s.backend.lock(ctx); err != nil {
		return first, false, fmt.Errorf("look for the first delivery with resources: %w", err)
	}
	defer s.backend.mutex.Unlock()
	for _, waiting := range s.backend.open {
		if !waiting.Class.Resources.IsZero() && s.serves(waiting.Class) {
			return engine.FirstWaiting{Resources: waiting.Class.Resources, Waited: s.backend.now().Sub(waiting.queuedAt)}, true, nil
		}
	}
	return first, false, nil
}

func (b *Backend) runInfo(member engine.DispatchMember) *engine.RunInfo {
	info := &engine.RunInfo{ID: member.Run, Name: member.Run.String(), DAG: member.DAG, Values: &workflow.RunValues{}}
	if stored, ok := b.runs[member.Run]; ok {
		info.Name, info.DAG, info.Values = stored.publicName(), stored.dag, stored.updatedValues()
	}
	return info
}

func (s *session) orders() []engine.Order {
	var orders []engine.Order
	for _, o := range s.backend.orders {
		if o.agent == s.incarnation {
			orders = append(orders, o.Order)
		}
	}
	slices.SortFunc(orders, func(one, other engine.Order) int { return cmp.Compare(one.ID, other.ID) })
	return orders
}

// Beat implements engine.AgentSession.
func (s *session) Beat(ctx context.Context) ([]engine.Order, error) {
	if err := s.backend.lock(ctx); err != nil {
		return nil, fmt.Errorf("beat: %w", err)
	}
	defer s.backend.mutex.Unlock()
	if err := s.live(); err != nil {
		return nil, fmt.Errorf("beat: %w", err)
	}
	s.beat++
	s.beatAt = s.backend.now()
	return s.orders(), nil
}

// Report implements engine.AgentSession. The report of an agent that was declared dead is stored, too: the
// writer knows which attempt counts.
func (s *session) Report(ctx context.Context, report *engine.Report, logs []engine.LogChunk, orders []int64) error {
	if err := s.backend.lock(ctx); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer s.backend.mutex.Unlock()
	s.backend.writeLogs(logs)
	for _, id := range orders {
		delete(s.backend.orders, id)
	}
	if len(report.Done)+len(report.Ends)+len(report.Returns) > 0 {
		kept := &engine.Report{
			ReplyTo: report.ReplyTo, Agent: report.Agent,
			Done: slices.Clone(report.Done), Ends: slices.Clone(report.Ends), Returns: slices.Clone(report.Returns),
		}
		s.backend.send(report.ReplyTo, letter{Mail: engine.Mail{Kind: engine.MailReport, Report: kept}})
	}
	return nil
}

// WriteLogs implements engine.AgentSession.
func (s *session) WriteLogs(ctx context.Context, logs []engine.LogChunk) error {
	if err := s.backend.lock(ctx); err != nil {
		return fmt.Errorf("write logs: %w", err)
	}
	defer s.backend.mutex.Unlock()
	s.backend.writeLogs(logs)
	return nil
}

func (b *Backend) writeLogs(logs []engine.LogChunk) {
	for _, chunk := range logs {
		if stored, ok := b.runs[chunk.Run]; ok {
			stored.addLog(chunk)
		}
	}
}

// Outputs implements engine.AgentSession.
func (s *session) Outputs(ctx context.Context, run workflow.RunID, tasks []string) (map[string]workflow.Value, error) {
	return s.backend.outputs(ctx, run, tasks)
}

// LiveRuns implements engine.AgentSession.
func (s *session) LiveRuns(ctx context.Context, runs []workflow.RunID) ([]workflow.RunID, error) {
	if err := s.backend.lock(ctx); err != nil {
		return nil, fmt.Errorf("look which runs live: %w", err)
	}
	defer s.backend.mutex.Unlock()
	var live []workflow.RunID
	for _, id := range runs {
		if run := s.backend.runs[id]; run != nil && !run.state.Status.Ended() {
			live = append(live, id)
		}
	}
	return live, nil
}

// Close implements engine.AgentSession.
func (s *session) Close(context.Context) error {
	s.backend.mutex.Lock()
	defer s.backend.mutex.Unlock()
	if s.status == agentLive {
		s.end(agentStopped, s.backend.now())
		s.backend.tellLost()
	}
	return nil
}

func (b *Backend) sortedAgents() []*session {
	return slices.SortedFunc(maps.Values(b.agents), func(one, other *session) int { return cmp.Compare(one.incarnation, other.incarnation) })
}
