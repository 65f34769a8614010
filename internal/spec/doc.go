// Package spec turns what users write in YAML into definitions, checks them
// against each other, and plans runs from them.
//
//	files ──Parse──▶ definitions ──NewCatalog──▶ a checked set ──PlanTask, PlanDAG──▶ workflow.Plan
//	      (Loader)       │    ▲                        │
//	               Encode▼    │Decode                  └──Values──▶ workflow.RunValues ─┐
//	                  a backend's revisions                workflow.TaskSpec ──Environment┴─▶ NAME=value
//
// What is wrong is told as Problems, all of them and not the first, each with
// its file, line and column where it came from a file. A definition with a
// problem is left out of what can be planned or published; so is what depends
// on it, and that gets a Problem which names it. All else stays usable.
//
// # Values
//
// A scalar has the type that the core schema of YAML 1.2 gives it, so yes and
// 2024-01-31 are text. A number keeps its digits whatever its size; 0o17 and
// 0x1f become decimal; a number with a leading zero (007) is kept as text,
// because the versions of YAML read it differently.
//
// A definition keeps values as they were written: "${…}" refers to another value or is a
// macro, and "$${" stands for a literal "${", until Environment resolves them. Parse
// tells only a reference that does not end.
//
// A null is no value: it is not exported, and a parameter with a null for its
// default has none.
//
// # Shape
//
// A dependency TASK:SET is on a variant of a task: a node of its own, with the values of
// that parameter set and the dependencies of the task. A DAG in a DAG becomes a group of
// nodes, DAG/TASK. A task with a list of items becomes a node for each, and one after them
// that stands for the task; where the list is not known yet, there is that one alone, and
// ExpandItems gives the others later.
package spec
