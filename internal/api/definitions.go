package api

import (
	"context"
	"fmt"
	"path"

	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

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

// Contexts implements Service.
func (d *Direct) Contexts(ctx context.Context, query *DefinitionQuery) (*ContextList, error) {
	list := &ContextList{Contexts: []ContextDefinition{}, Offset: query.Offset}
	var err error
	list.Limit, list.Total, err = d.list(ctx, spec.KindContext, query, func(definition *spec.Definition) {
		list.Contexts = append(list.Contexts, contextDefinition(definition))
	})
	if err == nil && len(list.Contexts) > 0 {
		var hidden map[string]bool
		hidden, err = d.sensitiveNames(ctx)
		for i := range list.Contexts {
			list.Contexts[i].Variables = mask(list.Contexts[i].Variables, hidden)
		}
	}
	if err != nil {
		return nil, d.explain(ctx, "list contexts", err)
	}
	return list, nil
}

// ParameterSets implements Service.
func (d *Direct) ParameterSets(ctx context.Context, query *DefinitionQuery) (*ParameterSetList, error) {
	list := &ParameterSetList{ParameterSets: []ParameterSetDefinition{}, Offset: query.Offset}
	var err error
	list.Limit, list.Total, err = d.list(ctx, spec.KindParameterSet, query, func(definition *spec.Definition) {
		list.ParameterSets = append(list.ParameterSets, parameterSetDefinition(definition))
	})
	if err == nil && len(list.ParameterSets) > 0 {
		var hidden map[string]bool
		hidden, err = d.sensitiveNames(ctx)
		for i := range list.ParameterSets {
			list.ParameterSets[i].Parameters = mask(list.ParameterSets[i].Parameters, hidden)
		}
	}
	if err != nil {
		return nil, d.explain(ctx, "list parameter sets", err)
	}
	return list, nil
}

// sensitiveNames are the names of all parameters that some task says are sensitive.
func (d *Direct) sensitiveNames(ctx context.Context) (map[string]bool, error) {
	catalog, _, err := d.language.Current(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	note := func(task *workflow.Task) {
		for name, parameter := range task.Parameters {
			if parameter.Sensitive {
				names[name] = true
			}
		}
	}
	for definition := range catalog.Definitions(spec.KindTask) {
		note(definition.Task)
	}
	for definition := range catalog.Definitions(spec.KindDAG) {
		for i := range definition.DAG.Tasks {
			note(&definition.DAG.Tasks[i].Overrides)
		}
	}
	return names, nil
}

// list calls add with the definitions on the page, and gives the limit that applies and the number of all that fit.
func (d *Direct) list(ctx context.Context, kind spec.Kind, query *DefinitionQuery, add func(*spec.Definition)) (limit, total int, err error) {
	if limit, err = pageLimit(query.Limit, query.Offset); err != nil {
		return 0, 0, err
	}
	if _, err := path.Match(query.Filter, ""); err != nil {
		return 0, 0, badField("filter", fmt.Sprintf("%q is not a pattern such as report_* or train_[ab]", query.Filter))
	}
	catalog, _, err := d.language.Current(ctx)
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
