package spec

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// maxSuggestions bounds for how many unknown names one catalog looks for near
// ones: each look goes through all ids.
const maxSuggestions = 100

// CatalogOptions are what definitions are checked against beside each other.
type CatalogOptions struct {
	// Queues are those that a task may name; nil allows any.
	Queues []string
	// DefaultContext is that of runs by a schedule whose DAG names none; empty is none.
	DefaultContext string
}

// Catalog is a set of definitions that were checked against each other. It does
// not change, and may be used by several goroutines at once.
type Catalog struct {
	tasks, dags, contexts, sets shelf

	graph    *graph    // of the tasks, and after them of the variants
	variants []variant // by task and set
	names    map[string]int32
	levels   []int32 // of each vertex: the length of the longest chain under it
	shapes   []shape // of the DAGs
	problems []Problem
	options  CatalogOptions
	scratch  sync.Pool // of *[]int32, one for each vertex, all zero

	suggestions int
	inlines     map[string]int // see inlineTasks
}

// shelf holds the definitions of one kind, by id.
type shelf struct {
	kind        Kind
	definitions []Definition // sorted by id; of those with the same, which are not usable, the index has the first
	index       map[string]int32
	causes      map[int32]error // why a definition is left out
}

// NewCatalog checks the definitions against each other. Those with problems are
// left out of what the catalog plans and lists; Problems tells why.
func NewCatalog(definitions []Definition, options CatalogOptions) *Catalog {
	c := &Catalog{options: options}
	c.tasks, c.dags = c.shelve(KindTask, definitions), c.shelve(KindDAG, definitions)
	c.contexts, c.sets = c.shelve(KindContext, definitions), c.shelve(KindParameterSet, definitions)
	c.scratch.New = func() any {
		numbers := make([]int32, c.graph.size())
		return &numbers
	}
	c.checkContexts()
	for i := range c.sets.definitions {
		c.checkReferences(&c.sets, int32(i)) //nolint:gosec // bounded
	}
	c.checkTasks()
	c.checkTriggers()
	c.checkDAGs()
	sortProblems(c.problems)
	return c
}

// Problems are all that were found between definitions. Those inside a
// definition came from Parse.
func (c *Catalog) Problems() []Problem { return c.problems }

// Definitions are the usable ones of a kind, by id.
func (c *Catalog) Definitions(kind Kind) iter.Seq[*Definition] {
	s := c.shelf(kind)
	return func(yield func(*Definition) bool) {
		for i := range s.definitions {
			if s.causes[int32(i)] == nil && !yield(&s.definitions[i]) { //nolint:gosec // bounded
				return
			}
		}
	}
}

// Schedules are the usable DAGs that run by themselves, by id.
func (c *Catalog) Schedules() iter.Seq2[string, *workflow.Schedule] {
	return func(yield func(string, *workflow.Schedule) bool) {
		for definition := range c.Definitions(KindDAG) {
			if when := definition.DAG.Schedule; when != nil && !yield(definition.ID, when) {
				return
			}
		}
	}
}

// Withheld are the ids of a kind that are left out because of a problem, in
// order. What was published under such an id before is its last good version.
func (c *Catalog) Withheld(kind Kind) []string {
	s := c.shelf(kind)
	ids := make([]string, 0, len(s.causes))
	for i := range s.causes {
		ids = append(ids, s.definitions[i].ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Lookup gives a usable definition. The error is an UnknownError, or the problem
// that the definition is left out for.
func (c *Catalog) Lookup(kind Kind, id string) (*Definition, error) {
	s := c.shelf(kind)
	i, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return &s.definitions[i], nil
}

func (c *Catalog) shelf(kind Kind) *shelf {
	switch kind {
	case KindTask:
		return &c.tasks
	case KindDAG:
		return &c.dags
	case KindContext:
		return &c.contexts
	case KindParameterSet:
		return &c.sets
	default:
		return &shelf{kind: kind}
	}
}

// find gives the number of a usable definition.
func (s *shelf) find(id string) (int32, error) {
	i, ok := s.index[id]
	if !ok {
		return 0, &UnknownError{s.kind, id, nearest.Names(id, s.ids())}
	}
	return i, s.causes[i]
}

func (s *shelf) ids() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range s.definitions {
			if (i == 0 || s.definitions[i].ID != s.definitions[i-1].ID) && !yield(s.definitions[i].ID) {
				return
			}
		}
	}
}

// withhold leaves a definition out; the first reason stands.
func (s *shelf) withhold(i int32, cause error) {
	if s.causes[i] == nil {
		s.causes[i] = cause
	}
}

// shelve sorts the definitions of one kind and tells ids that are there twice.
// Neither of two such definitions is usable: which was meant cannot be known.
func (c *Catalog) shelve(kind Kind, definitions []Definition) shelf {
	s := shelf{kind: kind, causes: make(map[int32]error)}
	var order []int32 // sorting numbers is quicker than sorting definitions
	for i := range definitions {
		if definitions[i].Kind == kind {
			order = append(order, int32(i)) //nolint:gosec // bounded
		}
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(strings.Compare(definitions[a].ID, definitions[b].ID), cmp.Compare(a, b))
	})
	s.definitions = make([]Definition, 0, len(order))
	s.index = make(map[string]int32, len(order))
	for _, i := range order {
		definition := &definitions[i]
		number := int32(len(s.definitions)) //nolint:gosec // bounded
		s.definitions = append(s.definitions, *definition)
		if first, twice := s.index[definition.ID]; twice {
			reason := c.problem(definition, definition.places().id, nil,
				"%s %q is defined twice: first at %s", kind.noun(), definition.ID, s.definitions[first].where())
			s.withhold(first, reason)
			s.withhold(number, reason)
			continue
		}
		s.index[definition.ID] = number
		if definition.Broken {
			s.withhold(number, Problem{
				File: definition.File, Kind: kind, ID: definition.ID,
				Message: definition.brokenMessage(),
			})
		}
	}
	return s
}

// where names a definition's place.
func (d *Definition) where() string {
	if d.File == "" {
		return "a definition without a file"
	}
	at := d.places().id
	return fmt.Sprintf("%s:%d:%d", d.File, at.line, at.column)
}

// problem notes a problem of a definition and gives it as a reason to leave the
// definition out.
func (c *Catalog) problem(d *Definition, at place, cause error, format string, arguments ...any) error {
	problem := Problem{
		File: d.File, Line: int(at.line), Column: int(at.column),
		Kind: d.Kind, ID: d.ID, Cause: cause, Message: fmt.Sprintf(format, arguments...),
	}
	c.problems = append(c.problems, problem)
	return problem
}

// hint adds a hint to the newest problem.
func (c *Catalog) hint(text string) { c.problems[len(c.problems)-1].Hint = text }

// unknown is an UnknownError with the nearest names, while these are not too dear.
func (c *Catalog) unknown(kind Kind, id string, names iter.Seq[string]) *UnknownError {
	unknown := &UnknownError{Kind: kind, ID: id}
	if c.suggestions < maxSuggestions {
		c.suggestions++
		unknown.Nearest = nearest.Names(id, names)
	}
	return unknown
}

// cause is the typed error at the root of a reason to leave something out, or nil.
func cause(reason error) error {
	if problem, ok := errors.AsType[Problem](reason); ok {
		return problem.Cause
	}
	return nil
}

func (c *Catalog) checkContexts() {
	s := &c.contexts
	g := newGraph(len(s.definitions))
	for i := range s.definitions {
		d := &s.definitions[i]
		var parents []int32
		c.checkReferences(s, int32(i)) //nolint:gosec // bounded
		if d.Context != nil && d.Context.Extends != "" {
			if parent, ok := s.index[d.Context.Extends]; ok {
				parents = append(parents, parent)
			} else {
				unknown := c.unknown(KindContext, d.Context.Extends, s.ids())
				s.withhold(int32(i), c.problem(d, d.places().context, unknown, "context %q extends %v", d.ID, unknown)) //nolint:gosec // bounded
			}
		}
		g.add(parents)
	}
	g.components(func(component []int32) {
		if g.cyclic(component) {
			c.withholdCycle(s, g, component, vertices{
				name:  func(vertex int32) string { return s.definitions[vertex].ID },
				owner: func(vertex int32) int32 { return vertex },
				place: func(d *Definition, _ string) place { return d.places().context },
			})
			return
		}
		for _, parent := range g.dependencies(component[0]) {
			if reason := s.causes[parent]; reason != nil {
				d := &s.definitions[component[0]]
				s.withhold(component[0], c.problem(d, d.places().context, cause(reason),
					"context %q extends context %q, which has a problem", d.ID, d.Context.Extends))
			}
		}
	})
}

// vertices say what those of a graph of definitions are: what each is called, whose it is, and where a definition
// names the next one.
type vertices struct {
	name  func(vertex int32) string
	owner func(vertex int32) int32
	place func(d *Definition, next string) place
}

// withholdCycle tells one problem for a cycle, and leaves out all that is on it.
func (c *Catalog) withholdCycle(s *shelf, g *graph, component []int32, v vertices) {
	path := g.cycle(component)
	cycle := &CycleError{Kind: s.kind, Path: make([]string, 0, len(path)+1)}
	for _, vertex := range path {
		cycle.Path = append(cycle.Path, v.name(vertex))
	}
	cycle.Path = append(cycle.Path, cycle.Path[0])
	d := &s.definitions[v.owner(path[0])]
	reason := c.problem(d, v.place(d, cycle.Path[1]), cycle, "%v", cycle)
	for _, vertex := range component {
		s.withhold(v.owner(vertex), reason)
	}
}

// checkQueue tells a queue that nobody declared.
func (c *Catalog) checkQueue(queue string, tell func(hint, message string)) {
	if c.options.Queues != nil && queue != "" && !slices.Contains(c.options.Queues, queue) {
		tell("declared are "+strings.Join(c.options.Queues, ", ")+"; add it to queues in the configuration, or name one of those",
			fmt.Sprintf("names queue %q, which is not declared%s", queue, didYouMean(nearest.Names(queue, slices.Values(c.options.Queues)))))
	}
}

// trouble says what is wrong with an id that find gave an error for.
func (s *shelf) trouble(id string, err error) string {
	if _, known := s.index[id]; known {
		return fmt.Sprintf("%s %q, which has a problem", s.kind.noun(), id)
	}
	return err.Error()
}

// asCause is the typed error in an error that find gave.
func asCause(err error) error {
	if unknown, ok := errors.AsType[*UnknownError](err); ok {
		return unknown
	}
	return cause(err)
}

// contextVariables gives the variables of a context: its own over those that it
// extends. The error is one of Lookup's.
func (c *Catalog) contextVariables(id string) (map[string]workflow.Value, error) {
	var chain []*workflow.Context
	for id != "" {
		i, err := c.contexts.find(id)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c.contexts.definitions[i].Context)
		id = chain[len(chain)-1].Extends
	}
	variables := make(map[string]workflow.Value)
	for _, context := range slices.Backward(chain) {
		maps.Copy(variables, context.Variables)
	}
	return variables, nil
}
