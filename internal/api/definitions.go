package api

import (
	"context"
	"fmt"
	"path"
	"sync"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
)

// definitions keeps the catalog of the backend's current revision.
type definitions struct {
	backend engine.Definitions

	mu       sync.Mutex
	revision int64
	catalog  *spec.Catalog
}

// current gives the catalog of the revision that is current now. It asks the backend for the
// revision's number each time, and for the definitions only when that has changed.
func (d *definitions) current(ctx context.Context) (*spec.Catalog, int64, error) {
	revision, err := d.backend.Revision(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read the revision of the definitions: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.catalog != nil && d.revision >= revision { // another call may have seen a newer one
		return d.catalog, d.revision, nil
	}
	stored, err := d.backend.LoadDefinitions(ctx, revision)
	if err != nil {
		return nil, 0, fmt.Errorf("load the definitions of revision %d: %w", revision, err)
	}
	known := make([]spec.Definition, len(stored))
	for i, definition := range stored {
		if known[i], err = spec.Decode(spec.Kind(definition.Kind), definition.Body); err != nil {
			return nil, 0, fmt.Errorf("read definition %s %s of revision %d: %w", definition.Kind, definition.ID, revision, err)
		}
	}
	d.catalog, d.revision = spec.NewCatalog(known, spec.CatalogOptions{}), revision
	return d.catalog, d.revision, nil
}

// Tasks implements Service.
func (d *Direct) Tasks(ctx context.Context, query *DefinitionQuery) (*TaskList, error) {
	list := &TaskList{Tasks: []TaskDefinition{}, Offset: query.Offset}
	var err error
	list.Limit, list.Total, err = d.list(ctx, spec.KindTask, query, func(definition *spec.Definition) {
		list.Tasks = append(list.Tasks, taskDefinition(definition))
	})
	if err != nil {
		return nil, d.explain(ctx, "list tasks", err)
	}
	return list, nil
}

// DAGs implements Service.
func (d *Direct) DAGs(ctx context.Context, query *DefinitionQuery) (*DAGList, error) {
	list := &DAGList{DAGs: []DAGDefinition{}, Offset: query.Offset}
	var err error
	list.Limit, list.Total, err = d.list(ctx, spec.KindDAG, query, func(definition *spec.Definition) {
		list.DAGs = append(list.DAGs, dagDefinition(definition))
	})
	if err != nil {
		return nil, d.explain(ctx, "list DAGs", err)
	}
	return list, nil
}

// list calls add with the definitions on the page, and gives the limit that applies and the number of all that fit.
func (d *Direct) list(ctx context.Context, kind spec.Kind, query *DefinitionQuery, add func(*spec.Definition)) (limit, total int, err error) {
	if limit, err = pageLimit(query.Limit, query.Offset); err != nil {
		return 0, 0, err
	}
	if _, err := path.Match(query.Filter, ""); err != nil {
		return 0, 0, badField("filter", fmt.Sprintf("%q is not a pattern such as report_* or train_[ab]", query.Filter))
	}
	catalog, _, err := d.definitions.current(ctx)
	if err != nil {
		return 0, 0, err
	}
	for definition := range catalog.Definitions(kind) {
		if query.Filter != "" {
			if fits, _ := path.Match(query.Filter, definition.ID); !fits { // the pattern was checked
				continue
			}
		}
		if query.Queue != "" && kind == spec.KindTask && definition.Task.Queue != query.Queue {
			continue
		}
		if total >= query.Offset && total < query.Offset+limit {
			add(definition)
		}
		total++
	}
	return limit, total, nil
}
