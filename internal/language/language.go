package language

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// kept is the number of catalogs that are held in memory: those that were used last.
const kept = 4

// Language reads definitions, and remembers those of the revisions that were asked for last. It is safe
// for concurrent use.
type Language struct {
	definitions engine.Definitions

	mu       sync.Mutex
	catalogs map[int64]*entry
	uses     int64 // counts, to know which was used last
	newest   int64 // the newest revision that was seen
}

// entry is the catalog of one revision.
type entry struct {
	used int64 // under Language.mu

	loading sync.Mutex
	catalog *spec.Catalog // nil until it was loaded
}

// New makes a Language of a backend's definitions.
func New(definitions engine.Definitions) *Language {
	return &Language{definitions: definitions, catalogs: map[int64]*entry{}}
}

// Current gives the catalog of the current revision. It asks the backend for the revision's number each
// time, and for the definitions only when it does not know them yet.
func (l *Language) Current(ctx context.Context) (*spec.Catalog, int64, error) {
	revision, err := l.definitions.Revision(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read the revision of the definitions: %w", err)
	}
	l.mu.Lock()
	l.newest = max(l.newest, revision) // another call may have seen a newer one
	revision = l.newest
	l.mu.Unlock()
	catalog, err := l.Catalog(ctx, revision)
	return catalog, revision, err
}

// Catalog gives the catalog of a revision.
func (l *Language) Catalog(ctx context.Context, revision int64) (*spec.Catalog, error) {
	entry := l.entry(revision)
	entry.loading.Lock()
	defer entry.loading.Unlock()
	if entry.catalog != nil {
		return entry.catalog, nil
	}
	stored, err := l.definitions.LoadDefinitions(ctx, revision)
	if err != nil {
		return nil, fmt.Errorf("load the definitions of revision %d: %w", revision, err)
	}
	definitions := make([]spec.Definition, len(stored))
	for i, definition := range stored {
		if definitions[i], err = spec.Decode(spec.Kind(definition.Kind), definition.Body); err != nil {
			return nil, fmt.Errorf("read definition %s %s of revision %d: %w", definition.Kind, definition.ID, revision, err)
		}
	}
	entry.catalog = spec.NewCatalog(definitions, spec.CatalogOptions{})
	return entry.catalog, nil
}

// entry finds or makes a revision's, and forgets the one that was not used for longest when there are too many.
func (l *Language) entry(revision int64) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uses++
	found := l.catalogs[revision]
	if found == nil {
		if len(l.catalogs) >= kept {
			oldest := revision
			for number, one := range l.catalogs {
				if oldest == revision || one.used < l.catalogs[oldest].used {
					oldest = number
				}
			}
			delete(l.catalogs, oldest)
		}
		found = &entry{}
		l.catalogs[revision] = found
	}
	found.used = l.uses
	return found
}

// Plan plans tasks together, with all that they depend on, by the definitions of the revision. Found are those that there
// are and that can be planned. Unusable says of others, where there is such a task, why it cannot be.
func (l *Language) Plan(ctx context.Context, revision int64, tasks []string) (
	plan *workflow.Plan, found map[string]bool, unusable map[string]string, err error,
) {
	catalog, err := l.Catalog(ctx, revision)
	if err != nil {
		return nil, nil, nil, err
	}
	plan, found = catalog.PlanTasks(tasks)
	for _, task := range tasks {
		if found[task] {
			continue
		}
		if why := catalog.Unusable(task); why != "" {
			if unusable == nil {
				unusable = map[string]string{}
			}
			unusable[task] = why
		}
	}
	return plan, found, unusable, nil
}

// Items gives the specifications of the node that stands for all items of a task, and of each item. What is
// wrong with the reference is the problem, for people; an error is one of outputs.
func (*Language) Items(task *workflow.TaskSpec, run *engine.RunDetails, outputs func(tasks []string) (map[string]workflow.Value, error)) (
	group *workflow.TaskSpec, items []*workflow.TaskSpec, problem string, err error,
) {
	var failed error
	values, err := spec.Items(task, run.Values, spec.Lookups{
		Run: func() (workflow.RunID, string) { return run.ID, run.Name },
		Outputs: func(tasks []string) (map[string]workflow.Value, error) {
			found, err := outputs(tasks)
			failed = errors.Join(failed, err)
			return found, err
		},
	})
	switch {
	case failed != nil:
		return nil, nil, "", fmt.Errorf("read the outputs that the items of task %s come from: %w", task.TaskID, failed)
	case err != nil:
		return nil, nil, err.Error(), nil //nolint:nilerr // it is for people, and trying again would not help
	}
	group, items = spec.ExpandItems(task, values)
	return group, items, "", nil
}

// Schedules gives the DAGs of the current revision that run by themselves.
func (l *Language) Schedules(ctx context.Context) (schedules map[string]*workflow.Schedule, revision int64, err error) {
	catalog, revision, err := l.Current(ctx)
	if err != nil {
		return nil, 0, err
	}
	schedules = maps.Collect(catalog.Schedules())
	return schedules, revision, nil
}

// Triggered gives the DAGs of the current revision that have triggers.
func (l *Language) Triggered(ctx context.Context) (dags []*spec.DAG, revision int64, err error) {
	catalog, revision, err := l.Current(ctx)
	if err != nil {
		return nil, 0, err
	}
	return slices.Collect(catalog.Triggered()), revision, nil
}

// DateKey is the idempotency key of the run of a DAG for a logical date: whoever makes it, a schedule or a
// backfill, there is one.
func DateKey(dag string, date time.Time) string {
	return dateKeys + dag + "/" + date.UTC().Format(time.RFC3339)
}

// The beginnings of idempotency keys that no caller's own has.
const (
	dateKeys    = "date/"
	triggerKeys = "trigger/"
	escapedKeys = "key/"
)

// TriggerKey is the idempotency key of the run that a trigger of a DAG starts for an occasion.
func TriggerKey(kind workflow.TriggerKind, dag, occasion string) string {
	return triggerKeys + string(kind) + "/" + dag + "/" + occasion
}

// CallerKey is a caller's idempotency key as it is stored: never that of a logical date, nor that of a trigger.
func CallerKey(key string) string {
	for _, taken := range []string{dateKeys, triggerKeys, escapedKeys} {
		if strings.HasPrefix(key, taken) {
			return escapedKeys + key
		}
	}
	return key
}
