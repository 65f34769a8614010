package memory

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Submit implements engine.Submitter.
func (b *Backend) Submit(ctx context.Context, submissions []engine.Submission) ([]engine.Submitted, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	defer b.mutex.Unlock()
	if limit := b.options.MaxPendingSubmits; limit > 0 && b.unstarted+len(submissions) > limit {
		return nil, fmt.Errorf("submit: %w: %d wait to be started, orchestrator.max_pending_submits is %d; try again later",
			engine.ErrTooManyPending, b.unstarted, limit)
	}
	if err := b.checkNames(submissions); err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	hashes := make([]workflow.Hash, len(submissions))
	for index := range submissions {
		var err error
		if hashes[index], err = b.storePlan(submissions[index].Plan); err != nil {
			return nil, fmt.Errorf("submit: %w", err)
		}
	}
	answers := make([]engine.Submitted, len(submissions))
	for index := range submissions {
		answers[index] = b.submit(&submissions[index], hashes[index])
	}
	return answers, nil
}

// checkNames errs when a custom id is used, or a name is used twice by the submissions themselves.
func (b *Backend) checkNames(submissions []engine.Submission) error {
	names, keys := map[string]bool{}, map[string]bool{}
	for index := range submissions {
		name, key := submissions[index].Name, submissions[index].IdempotencyKey
		if key != "" {
			if keys[key] {
				return fmt.Errorf("the idempotency key %q is %w", key, engine.ErrNameTaken)
			}
			keys[key] = true
			if _, known := b.keys[key]; known {
				continue // the answer is the earlier run
			}
		}
		if name == "" {
			continue
		}
		if _, used := b.names[name]; used || names[name] {
			return fmt.Errorf("the run id %q is %w", name, engine.ErrNameTaken)
		}
		names[name] = true
	}
	return nil
}

func (b *Backend) submit(submission *engine.Submission, plan workflow.Hash) engine.Submitted {
	if id, known := b.keys[submission.IdempotencyKey]; known {
		earlier := b.runs[id]
		return engine.Submitted{ID: id, Name: earlier.publicName(), CreatedAt: earlier.createdAt, Existing: true}
	}
	now := b.now()
	shared := b.plans[plan]
	made := &run{
		id: workflow.NewRunID(now, b.bucket(submission.Pin)), name: submission.Name, key: submission.IdempotencyKey,
		dag: submission.DAG, byOutcome: submission.DAG == "", context: submission.Context,
		nodes: shared.nodes, specs: shared.specs, graph: shared.graph, plan: shared,
		values: cloneValues(&submission.Values), options: submission.Options, request: submission.Request, revision: submission.Revision, rerunOf: submission.RerunOf,
		actor: submission.Actor, cause: submission.Cause, createdAt: now,
		state: workflow.RunChange{Status: workflow.RunPending, Total: len(submission.Plan.Nodes)},
	}
	if made.byOutcome {
		made.dag = submission.Task
	}
	made.keepOutputs(b.runs)
	made.note(engine.EventView{At: now, Kind: made.state.Status.String(), Node: workflow.RunNode, Actor: made.actor})
	b.runs[made.id], b.live[made.id] = made, true
	if made.name != "" {
		b.names[made.name] = made.id
	}
	if made.key != "" {
		b.keys[made.key] = made.id
	}
	b.send(made.id.Bucket(), letter{Mail: engine.Mail{
		Kind: engine.MailSubmit, Run: made.id, Plan: plan, DAG: made.dag, HasValues: made.hasValues(), Options: made.options,
	}})
	return engine.Submitted{ID: made.id, Name: made.publicName(), CreatedAt: now}
}

// bucket draws one: by the pin where there is one.
func (b *Backend) bucket(pin string) int {
	if pin == "" {
		return rand.IntN(b.options.Buckets) //nolint:gosec // spreads load, hides nothing
	}
	digest := fnv.New32a()
	digest.Write([]byte(pin))
	return int(digest.Sum32()) % b.options.Buckets
}
