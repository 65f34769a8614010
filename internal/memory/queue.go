package memory

import (
	"cmp"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// dispatch is a delivery as it is stored.
type dispatch struct {
	engine.Delivery
	replyTo   int
	queuedAt  time.Time
	claimedBy int64 // the incarnation, or 0
	claimedAt time.Time
	lost      bool // its writer was told that the agent died
}

// delivery is a copy for a writer.
func (d *dispatch) delivery() engine.Delivery {
	copied := d.Delivery
	copied.Members = slices.Clone(d.Members)
	return copied
}

func compareOpen(one, other *dispatch) int {
	return cmp.Or(cmp.Compare(one.Priority, other.Priority), cmp.Compare(one.ID, other.ID))
}

// dispatch puts a new delivery into the queue.
func (b *Backend) dispatch(wanted *engine.Dispatch, at time.Time, replyTo int) int64 {
	id := b.number()
	added := &dispatch{
		Delivery: engine.Delivery{
			ID: id, Class: wanted.Class, Priority: wanted.Priority, Members: slices.Clone(wanted.Members),
		},
		replyTo: replyTo, queuedAt: at,
	}
	b.dispatches[id] = added
	place, _ := slices.BinarySearchFunc(b.open, added, compareOpen)
	b.open = slices.Insert(b.open, place, added)
	b.classes[wanted.Class] = true
	for _, agent := range b.agents {
		if agent.status == agentLive && agent.serves(wanted.Class) {
			signal(agent.wake)
		}
	}
	return id
}

// remove takes a delivery away, if it is there.
func (b *Backend) remove(id int64) {
	if gone, ok := b.dispatches[id]; ok {
		b.unlist(gone)
		delete(b.dispatches, id)
	}
}

// unlist takes a delivery out of those that can be claimed.
func (b *Backend) unlist(taken *dispatch) {
	if place, found := slices.BinarySearchFunc(b.open, taken, compareOpen); found {
		b.open = slices.Delete(b.open, place, place+1)
	}
}

// withdraw takes away, whole, the deliveries that nobody claimed and that hold a member of one of the runs.
func (b *Backend) withdraw(runs []workflow.RunID) []engine.Delivery {
	if len(runs) == 0 {
		return nil
	}
	wanted := map[workflow.RunID]bool{}
	for _, id := range runs {
		wanted[id] = true
	}
	var withdrawn []engine.Delivery
	for _, found := range slices.Clone(b.open) {
		if slices.ContainsFunc(found.Members, func(member engine.DispatchMember) bool { return wanted[member.Run] }) {
			withdrawn = append(withdrawn, found.delivery())
			b.remove(found.ID)
		}
	}
	return withdrawn
}

// claim takes deliveries of up to want members out of the queue for an agent. A delivery that is too
// large is cut: the first members go, under a number of their own, the rest keeps its place. What needs more than is free
// is passed over.
func (b *Backend) claim(agent *session, want, slack int, free workflow.Resources, at time.Time) []*dispatch {
	var taken []*dispatch
	for _, found := range slices.Clone(b.open) {
		if want <= 0 {
			break
		}
		if !agent.serves(found.Class) || !found.Class.Resources.Fit(free) {
			continue
		}
		free = free.Minus(found.Class.Resources)
		if len(found.Members) > want+slack {
			found = b.split(found, want)
		} else {
			b.unlist(found)
		}
		found.Claimed, found.claimedBy, found.claimedAt = true, agent.incarnation, at
		taken = append(taken, found)
		want -= len(found.Members)
	}
	return taken
}

func (b *Backend) split(whole *dispatch, want int) *dispatch {
	part := *whole
	part.ID = b.number()
	part.Members = slices.Clone(whole.Members[:want])
	whole.Members = slices.Clone(whole.Members[want:])
	b.dispatches[part.ID] = &part
	return &part
}

// order tells every agent that claimed a delivery with a member of the run to kill the member.
func (b *Backend) order(kill engine.KillOrder) {
	told := map[int64]bool{}
	for _, held := range b.dispatches {
		holds := slices.ContainsFunc(held.Members, func(member engine.DispatchMember) bool { return member.Run == kill.Run })
		agent, known := b.agents[held.claimedBy]
		if !holds || !known || agent.status != agentLive || told[agent.incarnation] {
			continue
		}
		told[agent.incarnation] = true
		id := b.number()
		b.orders[id] = order{Order: engine.Order{ID: id, Kind: engine.OrderKill, Member: kill.Member}, agent: agent.incarnation}
		signal(agent.wake)
	}
}

// tellLost sends a message for each delivery that is claimed by an agent that does not live.
func (b *Backend) tellLost() {
	for _, held := range b.dispatches {
		if agent := b.agents[held.claimedBy]; held.Claimed && !held.lost && (agent == nil || agent.status != agentLive) {
			held.lost = true
			b.send(held.replyTo, letter{Mail: engine.Mail{Kind: engine.MailLost}, dispatch: held.ID})
		}
	}
}

// lostDelivery is the content of the message; without members when the delivery is gone.
func (b *Backend) lostDelivery(id int64) *engine.LostDelivery {
	lost := &engine.LostDelivery{ID: id}
	if held, ok := b.dispatches[id]; ok {
		lost.Agent, lost.ClaimedAt = held.claimedBy, held.claimedAt
		for _, member := range held.Members {
			lost.Members = append(lost.Members, member.Member)
		}
	}
	return lost
}

// holders are the deliveries that agents hold, by member.
func (b *Backend) holders() map[workflow.Member]*dispatch {
	held := map[workflow.Member]*dispatch{}
	for _, found := range b.dispatches {
		if found.Claimed {
			for _, member := range found.Members {
				held[member.Member] = found
			}
		}
	}
	return held
}
