package api_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// spied keeps what was submitted to a backend in memory.
type spied struct {
	*memory.Backend

	submitted []engine.Submission
	batches   []int
}

func (s *spied) Submit(ctx context.Context, submissions []engine.Submission) ([]engine.Submitted, error) {
	answers, err := s.Backend.Submit(ctx, submissions)
	if err == nil {
		s.submitted = append(s.submitted, submissions...)
		s.batches = append(s.batches, len(submissions))
	}
	return answers, err
}

// newMemory has the definitions of newLanguageBackend.
func newMemory(t *testing.T, options memory.Options) *spied {
	t.Helper()
	s := &spied{Backend: memory.New(options)}
	t.Cleanup(s.Close)
	if _, _, err := s.Publish(t.Context(), newLanguageBackend(t).definitions, "test"); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBackfill(t *testing.T) {
	t.Parallel()
	s := newMemory(t, memory.Options{})
	direct := api.NewDirect(s, api.DirectOptions{Actor: "ann", Cause: "cli"})
	// The clocks go forward on 2024-03-31 at 2:00: that day's run is at the end of the gap.
	request := api.Backfill{DAGID: "daily", StartDate: "2024-03-30", EndDate: "2024-04-01", Context: "prod", MaxParallel: 2}
	first, err := direct.Backfill(t.Context(), &request)
	if err != nil {
		t.Fatal(err)
	}
	var dates []string
	for _, run := range first.Runs {
		dates = append(dates, run.LogicalDate.Format(time.RFC3339))
		if run.Existing || run.Status != workflow.RunPending {
			t.Errorf("run %+v", run)
		}
	}
	if wanted := []string{"2024-03-30T01:30:00Z", "2024-03-31T01:00:00Z", "2024-04-01T00:30:00Z"}; !slices.Equal(dates, wanted) || first.Total != 3 {
		t.Errorf("dates %q of %d, wanted %q", dates, first.Total, wanted)
	}
	for i, made := range s.submitted {
		if made.DAG != "daily" || made.Pin != "dag/daily" || made.Context != "prod" || made.Values.Variables["REGION"] != `"eu"` || made.Actor != "ann" || made.Revision != 1 ||
			made.IdempotencyKey != "date/daily/"+dates[i] || !made.Options.LogicalDate.Equal(first.Runs[i].LogicalDate) || !made.Values.Macros.LogicalDate.Equal(first.Runs[i].LogicalDate) {
			t.Errorf("submitted %+v with %+v", made, made.Values)
		}
		if group := []workflow.RunGroup{{Name: "backfill/daily/2024-03-30/2024-04-01", MaxActive: 2}}; !slices.Equal(made.Options.Groups, group) {
			t.Errorf("groups %+v", made.Options.Groups)
		}
		if i > 0 && !made.Options.After.Equal(s.submitted[i-1].Options.LogicalDate) || i == 0 && !made.Options.After.IsZero() {
			t.Errorf("run %d waits for %s", i, made.Options.After)
		}
	}
	// The same again, in two pages and over a longer range, makes only what is missing.
	for offset := 0; offset < 4; offset += 2 {
		longer := api.Backfill{DAGID: "daily", StartDate: "2024-03-30", EndDate: "2024-04-02", Offset: offset, Limit: 2}
		page, err := direct.Backfill(t.Context(), &longer)
		if err != nil || page.Total != 4 || len(page.Runs) != 2 || page.Offset != offset {
			t.Fatalf("%+v, %v", page, err)
		}
		for i, run := range page.Runs {
			if at := offset + i; run.Existing != (at < 3) || at < 3 && run.RunID != first.Runs[at].RunID {
				t.Errorf("run %d is %+v", at, run)
			}
		}
	}
	if list, err := direct.Runs(t.Context(), &api.RunQuery{DAGID: "daily"}); err != nil || list.Total != 4 {
		t.Errorf("%d runs, %v", list.Total, err)
	}
	if beyond, err := direct.Backfill(t.Context(), &api.Backfill{DAGID: "daily", StartDate: "2024-03-30", EndDate: "2024-04-02", Offset: 9}); err != nil || len(beyond.Runs) != 0 {
		t.Errorf("%+v, %v", beyond, err)
	}
	// A scheduled run of one of the dates is the same.
	scheduled, err := direct.PlanDate(t.Context(), "daily", first.Runs[0].LogicalDate)
	if err != nil {
		t.Fatal(err)
	}
	if answers, err := s.Submit(t.Context(), []engine.Submission{*scheduled}); err != nil || !answers[0].Existing || answers[0].Name != first.Runs[0].RunID {
		t.Errorf("%+v, %v", answers, err)
	}
}

func TestBackfillByTheDay(t *testing.T) {
	t.Parallel()
	s := newMemory(t, memory.Options{})
	got, err := api.NewDirect(s, api.DirectOptions{}).Backfill(t.Context(), &api.Backfill{DAGID: "held_back", StartDate: "2024-01-01T12:00:00Z", EndDate: "2025-01-31"})
	if err != nil || got.Total != 396 || !got.Runs[0].LogicalDate.Equal(time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)) {
		t.Fatalf("%d, %v", got.Total, err)
	}
	if !slices.Equal(s.batches, []int{200, 196}) {
		t.Errorf("submitted in batches of %v", s.batches)
	}
	if groups := s.submitted[0].Options.Groups; !slices.Equal(groups, []workflow.RunGroup{{Name: "dag/held_back", MaxActive: 2}}) {
		t.Errorf("groups %+v", groups)
	}
}

// TestBackfillGoesOn is stopped by a full backend, and goes on when there is room.
func TestBackfillGoesOn(t *testing.T) {
	t.Parallel()
	s := newMemory(t, memory.Options{MaxPendingSubmits: 300})
	direct := api.NewDirect(s, api.DirectOptions{})
	request := api.Backfill{DAGID: "plain", StartDate: "2024-01-01", EndDate: "2024-12-31"}
	var full *api.Error
	if _, err := direct.Backfill(t.Context(), &request); !errors.As(err, &full) || full.Status != 429 {
		t.Fatalf("error %v", err)
	}
	if len(s.submitted) != 200 {
		t.Errorf("%d runs were made before", len(s.submitted))
	}
}

func TestBadRanges(t *testing.T) {
	t.Parallel()
	tomorrow := time.Now().AddDate(0, 0, 2).UTC().Format(time.DateOnly)
	for _, test := range []struct {
		name    string
		request api.Backfill
		status  int
		field   string
	}{
		{"no DAG", api.Backfill{StartDate: "2024-01-01", EndDate: "2024-01-02"}, 400, "dag_id"},
		{"unknown DAG", api.Backfill{DAGID: "dayly", StartDate: "2024-01-01", EndDate: "2024-01-02"}, 404, ""},
		{"no start", api.Backfill{DAGID: "daily", EndDate: "2024-01-02"}, 400, "start_date"},
		{"no end", api.Backfill{DAGID: "daily", StartDate: "2024-01-02"}, 400, "end_date"},
		{"start is no date", api.Backfill{DAGID: "daily", StartDate: "yesterday", EndDate: "2024-01-02"}, 400, "start_date"},
		{"end is no date", api.Backfill{DAGID: "daily", StartDate: "2024-01-02", EndDate: "2024-01-32"}, 400, "end_date"},
		{"start before all time", api.Backfill{DAGID: "daily", StartDate: "0001-01-01", EndDate: "2024-01-02"}, 422, "start_date"},
		{"backwards", api.Backfill{DAGID: "daily", StartDate: "2024-01-02", EndDate: "2024-01-01"}, 422, "end_date"},
		{"yet to come", api.Backfill{DAGID: "daily", StartDate: "2024-01-02", EndDate: tomorrow}, 422, "end_date"},
		{"nothing in it", api.Backfill{DAGID: "daily", StartDate: "2024-01-02T12:00:00Z", EndDate: "2024-01-02T13:00:00Z"}, 422, "end_date"},
		{"negative max_parallel", api.Backfill{DAGID: "daily", StartDate: "2024-01-01", EndDate: "2024-01-02", MaxParallel: -1}, 400, "max_parallel"},
		{"negative offset", api.Backfill{DAGID: "daily", StartDate: "2024-01-01", EndDate: "2024-01-02", Offset: -1}, 400, "offset"},
		{"negative limit", api.Backfill{DAGID: "daily", StartDate: "2024-01-01", EndDate: "2024-01-02", Limit: -1}, 400, "limit"},
		{"unknown context", api.Backfill{DAGID: "daily", StartDate: "2024-01-01", EndDate: "2024-01-02", Context: "prd"}, 422, "context"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newMemory(t, memory.Options{})
			_, err := api.NewDirect(s, api.DirectOptions{}).Backfill(t.Context(), &test.request)
			var got *api.Error
			if !errors.As(err, &got) || got.Status != test.status || test.field != "" && got.Details.Field != test.field {
				t.Errorf("error %v, wanted %d for %s", err, test.status, test.field)
			}
			if len(s.submitted) > 0 {
				t.Errorf("submitted %d runs", len(s.submitted))
			}
		})
	}
	long := api.Backfill{DAGID: "minutely", StartDate: "2020-01-01", EndDate: "2024-01-01"}
	s := newMemory(t, memory.Options{})
	b := newLanguageBackend(t)
	b.define(t, "dag", `{id: minutely, schedule: {cron: "* * * * *"}, tasks: [{id: load}]}`)
	if _, _, err := s.Publish(t.Context(), b.definitions, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := api.NewDirect(s, api.DirectOptions{}).Backfill(t.Context(), &long); err == nil || !strings.Contains(err.Error(), "more than 100000") || len(s.submitted) > 0 {
		t.Errorf("error %v", err)
	}
}
