package postgres

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func drawRun(t *rapid.T) workflow.RunID {
	// Few of them, so that neighbours share one.
	return workflow.RunID{0: byte(rapid.IntRange(0, 3).Draw(t, "run")), 15: 1}
}

func drawMember(t *rapid.T) workflow.Member {
	return workflow.Member{
		Run: drawRun(t), Node: rapid.Int32Range(0, 1<<31-1).Draw(t, "node"),
		Attempt: rapid.Uint16().Draw(t, "attempt"), Delivery: rapid.Uint16().Draw(t, "delivery"),
	}
}

func drawTime(t *rapid.T) time.Time {
	if rapid.IntRange(0, 3).Draw(t, "no time") == 0 {
		return time.Time{}
	}
	return time.UnixMicro(rapid.Int64Range(0, 1<<53).Draw(t, "microseconds")).UTC()
}

func drawReport(t *rapid.T) *engine.Report {
	report := &engine.Report{ReplyTo: rapid.IntRange(0, 4095).Draw(t, "bucket"), Agent: rapid.Int64().Draw(t, "agent")}
	report.Done = rapid.SliceOf(rapid.Int64()).Draw(t, "done")
	for range rapid.IntRange(0, 5).Draw(t, "ends") {
		end := engine.End{Member: drawMember(t), Result: workflow.Result{
			Status:  rapid.SampledFrom([]workflow.TaskStatus{workflow.TaskCompleted, workflow.TaskFailed, workflow.TaskCancelled}).Draw(t, "status"),
			Cause:   workflow.Cause(rapid.Int16Range(0, 22).Draw(t, "cause")),
			Started: rapid.Bool().Draw(t, "started"), Reason: strings.ReplaceAll(rapid.String().Draw(t, "reason"), "\x00", ""),
			StartTime: drawTime(t), EndTime: drawTime(t), Agent: report.Agent,
		}}
		if rapid.Bool().Draw(t, "has a code") {
			code := rapid.Int32().Draw(t, "code")
			end.ExitCode = &code
		}
		if rapid.Bool().Draw(t, "has an output") {
			end.Output = workflow.Value(rapid.SampledFrom([]string{`{}`, `{"a": [1, "ü"]}`}).Draw(t, "output"))
		}
		if rapid.Bool().Draw(t, "has an evaluation") {
			end.Evaluation = rapid.SampledFrom([]*workflow.Evaluation{
				{}, {Chosen: true, NextTasks: []string{}}, {Chosen: true, NextTasks: []string{"a", "b#2"}, Metadata: `{"x":1}`},
				{ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{"a": `"b"`}, Parameters: map[string]map[string]workflow.Value{"t": {"p": "1"}}}},
			}).Draw(t, "evaluation")
		}
		report.Ends = append(report.Ends, end)
	}
	for range rapid.IntRange(0, 5).Draw(t, "returns") {
		report.Returns = append(report.Returns, engine.Return{
			Member: drawMember(t), Started: rapid.Bool().Draw(t, "started"), StartTime: drawTime(t), EndTime: drawTime(t),
		})
	}
	return report
}

func TestReportRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		report := drawReport(t)
		body := packReport(report)
		got, err := unpackReport(body, report.ReplyTo)
		if err != nil {
			t.Fatal(err)
		}
		if difference := cmp.Diff(report, got, cmpopts.EquateEmpty()); difference != "" {
			t.Fatal(difference)
		}
		// A report that was cut is never taken for a whole one.
		if cut := rapid.IntRange(0, len(body)-1).Draw(t, "cut"); cut > 0 {
			if _, err := unpackReport(body[:cut], report.ReplyTo); err == nil {
				t.Fatalf("%d of %d bytes are read as a report", cut, len(body))
			}
		}
	})
}

func TestReportOfNoOps(t *testing.T) {
	t.Parallel()
	at, code := time.Now(), int32(0)
	report := &engine.Report{Agent: 12, Done: []int64{1_000_000}}
	for node := range int32(50) {
		report.Ends = append(report.Ends, engine.End{
			Member: workflow.Member{Run: workflow.NewRunID(at, 1), Node: node, Attempt: 1, Delivery: 1},
			Result: workflow.Result{Status: workflow.TaskCompleted, Started: true, ExitCode: &code, StartTime: at, EndTime: at.Add(5 * time.Microsecond)},
		})
		report.Ends[node].Run = report.Ends[0].Run
	}
	if size := len(packReport(report)); size > 50*12+40 {
		t.Errorf("50 ends take %d bytes", size)
	}
}

func FuzzUnpackReport(f *testing.F) {
	code := int32(3)
	at := time.Unix(1e9, 0)
	f.Add(packReport(&engine.Report{}))
	f.Add(packReport(&engine.Report{
		Agent: 1, Done: []int64{5, 3}, Ends: []engine.End{{Result: workflow.Result{ExitCode: &code, Reason: "x", StartTime: at, EndTime: at}}},
		Returns: []engine.Return{{Started: true, StartTime: at}},
	}))
	f.Add([]byte{reportVersion, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add(append([]byte{reportVersion, 0, 0, 0xff, 0x07}, make([]byte, 1000)...))
	f.Fuzz(func(t *testing.T, body []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		report, err := unpackReport(body, 1)
		runtime.ReadMemStats(&after)
		// What is malformed must not cost much more than what it could have held.
		if used := after.TotalAlloc - before.TotalAlloc; used > uint64(64*len(body)+1<<16) {
			t.Errorf("%d bytes made it allocate %d", len(body), used)
		}
		if err != nil {
			return
		}
		for _, end := range report.Ends {
			if strings.ContainsRune(end.Reason, 0) {
				t.Error("a reason that can't be stored")
			}
		}
	})
}

func TestReasonsCanBeStored(t *testing.T) {
	t.Parallel()
	report, err := unpackReport(packReport(&engine.Report{Ends: []engine.End{{Result: workflow.Result{Reason: "exec \xff\x00 failed"}}}}), 0)
	if err != nil || report.Ends[0].Reason != "exec \uFFFD\uFFFD failed" {
		t.Errorf("it became %q, %v", report.Ends[0].Reason, err)
	}
}

// What an agent sends and nobody could store fails the task, and nothing else.
func TestResultsThatCannotBeStored(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*workflow.Result){
		"an output that is no object":   func(r *workflow.Result) { r.Output = "1" },
		"an output that is null":        func(r *workflow.Result) { r.Output = "null" },
		"an output that is cut":         func(r *workflow.Result) { r.Output = `{"a": ` },
		"an output that is no text":     func(r *workflow.Result) { r.Output = "{\"a\": \"\xff\"}" },
		"an evaluation that is no JSON": func(r *workflow.Result) { r.Evaluation = &workflow.Evaluation{Metadata: "{"} },
		"an evaluation that is no text": func(r *workflow.Result) { r.Evaluation = &workflow.Evaluation{Metadata: "\"\xff\""} },
	} {
		end := engine.End{Result: workflow.Result{Status: workflow.TaskCompleted}}
		spoil(&end.Result)
		report, err := unpackReport(packReport(&engine.Report{Ends: []engine.End{{}, end, {}}}), 0)
		if err != nil || len(report.Ends) != 3 {
			t.Fatalf("%s: %v", name, err)
		}
		if got := &report.Ends[1]; got.Status != workflow.TaskFailed || got.Cause != workflow.CauseEvaluation || got.Reason == "" || got.Output != "" || got.Evaluation != nil {
			t.Errorf("%s: it became %+v", name, got)
		}
	}
}

func TestMembersRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var members []engine.DispatchMember
		for range rapid.IntRange(1, 20).Draw(t, "members") {
			member := engine.DispatchMember{Member: drawMember(t), Spec: workflow.Hash{rapid.Byte().Draw(t, "spec")}}
			// What all members of a run share.
			member.DAG, member.Values = "dag of "+member.Run.String(), int32(member.Run[0]%3)
			members = append(members, member)
		}
		packed := packMembers(members)
		if int(packed.N) != len(members) || len(packed.Members) != memberSize*len(members) {
			t.Fatalf("%d members became %d in %d bytes", len(members), packed.N, len(packed.Members))
		}
		unpacked, err := unpackMembers(packed.Runs, packed.Dags, packed.Versions, packed.Specs, packed.Members)
		if err != nil || !slices.Equal(unpacked, members) {
			t.Fatalf("they became %v, %v", unpacked, err)
		}
		// SQL cuts a delivery between members.
		cut := rapid.IntRange(0, len(members)).Draw(t, "cut")
		first, err := unpackMembers(packed.Runs, packed.Dags, packed.Versions, packed.Specs, packed.Members[:memberSize*cut])
		if err != nil || !slices.Equal(first, members[:cut]) {
			t.Fatalf("the first %d became %v, %v", cut, first, err)
		}
	})
}

func FuzzUnpackMembers(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1}, 1)
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 9}, 0)
	f.Fuzz(func(t *testing.T, members []byte, runs int) {
		if runs < 0 || runs > 1000 {
			return
		}
		unpacked, err := unpackMembers(make([]db.UUID, runs), make([]string, runs), make([]int32, runs), make([]db.UUID, runs), members)
		if err == nil && len(unpacked) != len(members)/memberSize {
			t.Errorf("%d bytes became %d members", len(members), len(unpacked))
		}
	})
}
