package timezones_test

import (
	"encoding/csv"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// group is a row of the report. The offsets are nil for a country without a zone.
type group struct {
	kind, key, name string
	zones           int
	countries       int
	least, most     *int
	names           string
}

func (g group) Equal(other group) bool {
	same := func(a, b *int) bool { return a == b || a != nil && b != nil && *a == *b }
	return g.kind == other.kind && g.key == other.key && g.name == other.name && g.names == other.names &&
		g.zones == other.zones && g.countries == other.countries && same(g.least, other.least) && same(g.most, other.most)
}

type zone struct {
	name      string
	countries []string
	offset    int
}

// expected computes the report from the tables, in exact fractions.
func expected(t *testing.T, data string) []group {
	t.Helper()
	var zones []zone
	for _, row := range rows(t, filepath.Join(data, "zone1970.tab")) {
		zones = append(zones, zone{name: row[2], countries: strings.Split(row[0], ","), offset: solarOffset(t, row[1])})
	}
	slices.SortFunc(zones, func(a, b zone) int { return strings.Compare(a.name, b.name) })

	total := summarize(group{kind: "total", key: "world"}, zones, func(zone) bool { return true })
	total.names = ""
	groups := []group{total}
	for offset := -12; offset <= 12; offset++ {
		key := "UTC" + strconv.Itoa(offset)
		if offset >= 0 {
			key = "UTC+" + strconv.Itoa(offset)
		}
		g := summarize(group{kind: "offset", key: key}, zones, func(z zone) bool { return z.offset == offset })
		if g.zones > 0 {
			groups = append(groups, g)
		}
	}
	countries := rows(t, filepath.Join(data, "iso3166.tab"))
	slices.SortFunc(countries, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	for _, row := range countries {
		g := summarize(group{kind: "country", key: row[0], name: row[1]}, zones, func(z zone) bool { return slices.Contains(z.countries, row[0]) })
		g.countries = 1
		groups = append(groups, g)
	}
	return groups
}

func summarize(g group, zones []zone, belongs func(zone) bool) group {
	met := make(map[string]bool)
	var names []string
	for _, z := range zones {
		if !belongs(z) {
			continue
		}
		names = append(names, z.name)
		for _, code := range z.countries {
			met[code] = true
		}
		if g.least == nil || z.offset < *g.least {
			g.least = new(z.offset)
		}
		if g.most == nil || z.offset > *g.most {
			g.most = new(z.offset)
		}
	}
	g.zones, g.countries, g.names = len(names), len(met), strings.Join(names, " ")
	return g
}

var coordinates = regexp.MustCompile(`^[+-]\d{4}(?:\d{2})?([+-])(\d{3})(\d{2})(\d{2})?$`)

// solarOffset is the longitude over 15 degrees, rounded to the nearest integer, a half upwards.
func solarOffset(t *testing.T, text string) int {
	t.Helper()
	part := coordinates.FindStringSubmatch(text)
	if part == nil {
		t.Fatalf("coordinates %q", text)
	}
	number := func(digits string) int64 {
		n, _ := strconv.ParseInt("0"+digits, 10, 64)
		return n
	}
	degrees := new(big.Rat).SetInt64(number(part[2]))
	degrees.Add(degrees, big.NewRat(number(part[3]), 60))
	degrees.Add(degrees, big.NewRat(number(part[4]), 3600))
	if part[1] == "-" {
		degrees.Neg(degrees)
	}
	hours := degrees.Quo(degrees, big.NewRat(15, 1))
	hours.Add(hours, big.NewRat(1, 2))
	floor := new(big.Int).Div(hours.Num(), hours.Denom()) // Euclidean: towards minus infinity, as Denom is positive
	return int(floor.Int64())
}

// rows are a table's rows without its comments.
func rows(t *testing.T, path string) [][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			all = append(all, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		}
	}
	return all
}

func parseReport(t *testing.T, text string) []group {
	t.Helper()
	records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	header := "group,key,name,zones,countries,solar_offset_min,solar_offset_max,zone_names"
	if got := strings.Join(records[0], ","); got != header {
		t.Fatalf("header %s, want %s", got, header)
	}
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	offset := func(text string) *int {
		if text == "" {
			return nil
		}
		return new(number(text))
	}
	groups := make([]group, 0, len(records)-1)
	for _, r := range records[1:] {
		groups = append(groups, group{
			kind: r[0], key: r[1], name: r[2], zones: number(r[3]), countries: number(r[4]),
			least: offset(r[5]), most: offset(r[6]), names: r[7],
		})
	}
	return groups
}
