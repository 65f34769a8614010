package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/keeper"
	"github.com/cyclonetix/cyclonetix/internal/pgtest"
)

func TestMain(m *testing.M) {
	keeper.MaybeMain()
	MaybeChild()
	os.Exit(pgtest.Run(m))
}

// The benchmark works, at a hundredth of its size, and leaves nothing behind. Its figures mean nothing here.
func TestSmallBenchmark(t *testing.T) {
	url := pgtest.NewDatabase(t, nil)
	report, err := Run(context.Background(), Options{
		URL: url, Only: []string{"throughput", "two-processes", "hop", "processes", "planning"}, Rounds: 1, Scale: 0.01, Say: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Rows) != 13 {
		t.Errorf("there are %d rows instead of 13", len(report.Rows))
	}
	for _, row := range report.Rows {
		if row.Value <= 0 {
			t.Errorf("%s is %v", row.Name, row.Value)
		}
	}
	var table, text bytes.Buffer
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table.String(), "bare River") {
		t.Errorf("the table lacks its yardstick:\n%s", table.String())
	}
	if err := report.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	var read Report
	if err := json.Unmarshal(text.Bytes(), &read); err != nil || len(read.Rows) != len(report.Rows) {
		t.Errorf("the JSON does not hold the report: %v", err)
	}
}

func TestUnknownCase(t *testing.T) {
	_, err := Run(context.Background(), Options{Only: []string{"speed"}})
	if err == nil || !strings.Contains(err.Error(), `there is no case "speed"; there are throughput`) {
		t.Errorf("got %v", err)
	}
}
