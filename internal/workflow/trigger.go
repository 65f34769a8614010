package workflow

import "slices"

// verdict is what a trigger rule says of a pending node.
type verdict uint8

const (
	verdictWait verdict = iota
	verdictStart
	verdictSkip // nothing failed, but it has nothing to start for
	verdictFail // upstream_failed
)

// census counts a node's parents by how they ended.
type census struct{ open, succeeded, failed, skipped int32 }

func (c *census) add(status TaskStatus) {
	switch {
	case !status.Ended():
		c.open++
	case status == TaskSkipped:
		c.skipped++
	case status.Failure():
		c.failed++
	default:
		c.succeeded++
	}
}

// census counts the parents of a node as they are in the run.
func (r *Run) census(node int32) census {
	var c census
	for _, parent := range r.Graph.Parents(node) {
		c.add(r.Nodes[parent].Status)
	}
	return c
}

// verdict is what the rule says of a node with such parents. A node without parents starts, whatever its rule.
func (c *census) verdict(rule TriggerRule) verdict {
	if *c == (census{}) {
		return verdictStart
	}
	ended := c.open == 0
	if ended && c.succeeded+c.failed == 0 {
		return verdictSkip // no parent is left
	}
	switch rule {
	case RuleAllDone:
		return c.when(ended)
	case RuleOneSuccess:
		if ended && c.succeeded == 0 {
			return verdictFail
		}
		return c.when(c.succeeded > 0)
	case RuleOneFailed:
		if ended && c.failed == 0 {
			return verdictSkip
		}
		return c.when(c.failed > 0)
	case RuleAllFailed:
		if c.succeeded > 0 {
			return verdictSkip
		}
		return c.when(ended)
	case RuleAllSuccess, RuleNoneFailed:
	}
	if c.failed > 0 {
		return verdictFail
	}
	return c.when(ended)
}

func (*census) when(start bool) verdict {
	if start {
		return verdictStart
	}
	return verdictWait
}

// decide puts a node where the verdict on it says.
func (w *decided) decide(node int32, of verdict) {
	switch of {
	case verdictStart:
		w.ready = append(w.ready, node)
	case verdictSkip:
		w.skip = append(w.skip, node)
	case verdictFail:
		w.doomed = append(w.doomed, node)
	case verdictWait:
	}
}

// forget takes nodes out, because they are decided on anew.
func (w *decided) forget(which func(node int32) bool) {
	w.ready, w.doomed, w.skip = slices.DeleteFunc(w.ready, which), slices.DeleteFunc(w.doomed, which), slices.DeleteFunc(w.skip, which)
}
