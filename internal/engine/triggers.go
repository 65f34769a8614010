package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Listeners are the DAGs that runs of others start.
type Listeners struct {
	// Revision is that of the definitions that say so; newer ones may be in it, too.
	Revision int64
	// Of are they, by the id of the DAG whose runs start them.
	Of map[string][]string
}

// Add adds a DAG by its definition, of kind "dag". One that can't be read waits for nothing: it can't be planned either.
func (l *Listeners) Add(definition *Definition) {
	var dag struct {
		Triggers struct {
			DAGCompleted []string `json:"dag_completed"`
		} `json:"triggers"`
	}
	if err := json.Unmarshal(definition.Body, &dag); err != nil {
		return
	}
	for _, id := range dag.Triggers.DAGCompleted {
		if l.Of == nil {
			l.Of = map[string][]string{}
		}
		l.Of[id] = append(l.Of[id], definition.ID)
	}
}

// JobDAGCompleted is the kind of the job that starts a run because another has completed. Its arguments are a DAGCompleted.
const JobDAGCompleted = "dag_completed"

// DAGCompleted says that a run has completed, and which DAG waited for that.
type DAGCompleted struct {
	// DAG is to have a run.
	DAG string `json:"dag"`
	// Of is what the completed run is one of: a DAG, or a task of this id.
	Of  string         `json:"of"`
	Run workflow.RunID `json:"run"`
}

// Job is the job for it.
func (c DAGCompleted) Job() workflow.Job {
	args, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("encode the end of run %s: %v", c.Run, err)) // there is nothing in it that could not be
	}
	return workflow.Job{Kind: JobDAGCompleted, Args: args}
}

// Arrival is a file, as it was when a trigger started a run for it.
type Arrival struct {
	// File is the hash of its path.
	File workflow.Hash
	// Size is in bytes, Modified in nanoseconds since 1970.
	Size, Modified int64
}

// Arrivals keeps for which files triggers have started runs. It outlives retention.
type Arrivals interface {
	// Arrivals gives those of a DAG.
	Arrivals(ctx context.Context, dag string) ([]Arrival, error)
	// NoteArrivals adds some, over what was known of the same files, and forgets those that are gone.
	NoteArrivals(ctx context.Context, dag string, arrived []Arrival, gone []workflow.Hash) error
}
