package postgres

import (
	"fmt"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// In a loop every turn changes values. Agents and the writer read each change once, and what they gave out stays as it was.
func TestUpdatesAreReadOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	of := submission(planOf("one", "two: one", "three: two", "four: three"))
	for _, spec := range of.Plan.Specs {
		spec.EvaluationPoint = true
	}
	of.Values.Env = map[string]string{"E": "given"}
	w.takeOver()
	id := w.submit(of)[0].ID
	w.turn()
	session := w.agent("one")
	for turn := range 4 {
		claimed := w.claim(session, 1, 0)
		if len(claimed) != 1 {
			t.Fatalf("in turn %d %d deliveries are claimed", turn, len(claimed))
		}
		details, err := w.writer.Details(w.ctx, id)
		w.must(err, "load details")
		for reader, values := range map[string]*workflow.RunValues{"the agent": claimed[0].Tasks[0].Run.Values, "the writer": details.Values} {
			got := map[string]workflow.Value{}
			size := 0
			for _, update := range values.Updates {
				for name, value := range update.Variables {
					got[name] = value
					size++
				}
			}
			want := map[string]workflow.Value{}
			for before := range turn {
				want[fmt.Sprint("only", before)], want["all"] = `1`, workflow.Value(fmt.Sprint(before))
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || size != len(want) || values.Env["E"] != "given" {
				t.Errorf("in turn %d %s sees %v in %d parts, should see %v", turn, reader, got, size, want)
			}
		}
		w.exec("DELETE FROM cyclonetix__state.run_updates")
		report := reportOf(session, &claimed[0])
		report.Ends[0].Evaluation = &workflow.Evaluation{ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{
			fmt.Sprint("only", turn): `1`, "all": workflow.Value(fmt.Sprint(turn)),
		}}}
		w.must(session.Report(w.ctx, report, nil, nil), "report")
		w.turn()
	}
	if view := w.view(id); view.Status != workflow.RunCompleted {
		t.Errorf("the run is %s", view.Status)
	}
}
